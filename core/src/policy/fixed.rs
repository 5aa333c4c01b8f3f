//! Pickers that always give the same answer: wait, fail, or go to one endpoint.

use std::sync::Arc;

use super::Picker;
use crate::{Pick, PickContext, Status};

struct Fixed(Pick);

impl Picker for Fixed {
    fn pick(&self, _: &mut PickContext<'_>) -> Pick {
        self.0.clone()
    }
}

/// Every request gets this answer.
pub(crate) fn always(answer: Pick) -> Arc<dyn Picker> {
    Arc::new(Fixed(answer))
}

/// Every request waits.
pub(crate) fn queue() -> Arc<dyn Picker> {
    always(Pick::Queue)
}

/// Every request fails, unless it is `wait_for_ready`.
pub(crate) fn fail(status: Status) -> Arc<dyn Picker> {
    always(Pick::Fail(status))
}
