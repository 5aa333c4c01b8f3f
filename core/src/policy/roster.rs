//! What a policy remembers of each endpoint of the last snapshot.

use super::endpoint_states::Positions;
use crate::{Endpoint, EndpointId, EndpointSet};

/// A row for each endpoint, in the resolver's order.
#[derive(Debug, Default)]
pub(super) struct Roster<T> {
    endpoints: EndpointSet,
    rows: Vec<T>,
    positions: Positions,
}

impl<T: Default> Roster<T> {
    /// Takes a snapshot: an endpoint that stays keeps its row, one that is new begins with an empty one. Returns the new ones.
    pub(super) fn update(&mut self, endpoints: &EndpointSet) -> Vec<EndpointId> {
        let before = self.endpoints.as_slice();
        let mut rows = std::mem::take(&mut self.rows);
        let mut new = Vec::new();
        let row_of = |e: &Endpoint| {
            // The address tells an endpoint that stayed from a new one under a reused id.
            let stayed = self.positions.get(e.id).filter(|&p| before[p].address == e.address);
            match stayed {
                // No other endpoint of the new snapshot has this id.
                Some(p) => std::mem::take(&mut rows[p]),
                None => {
                    new.push(e.id);
                    T::default()
                }
            }
        };
        self.rows = endpoints.iter().map(row_of).collect();
        self.positions = Positions::of(endpoints.iter().map(|e| e.id));
        self.endpoints = endpoints.clone();
        new
    }
}

impl<T> Roster<T> {
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn get(&self, id: EndpointId) -> Option<&T> {
        self.positions.get(id).map(|p| &self.rows[p])
    }

    pub(super) fn get_mut(&mut self, id: EndpointId) -> Option<&mut T> {
        self.positions.get(id).map(|p| &mut self.rows[p])
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Endpoint, &T)> {
        self.endpoints.iter().zip(&self.rows)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&Endpoint, &mut T)> {
        self.endpoints.iter().zip(&mut self.rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Address;

    #[test]
    fn rows_stay_with_their_address() {
        let set = |list: &[(u32, &str)]| {
            EndpointSet::new(list.iter().map(|&(id, a)| Endpoint::new(EndpointId(id), Address::new(a))))
        };
        let mut roster: Roster<u32> = Roster::default();
        assert_eq!(roster.update(&set(&[(4, "a"), (2, "b")])), [EndpointId(4), EndpointId(2)]);
        *roster.get_mut(EndpointId(4)).unwrap() = 40;
        *roster.get_mut(EndpointId(2)).unwrap() = 20;
        // 2 belongs to another address now, 3 is new, 4 has only moved.
        assert_eq!(roster.update(&set(&[(2, "c"), (3, "b"), (4, "a")])), [EndpointId(2), EndpointId(3)]);
        assert_eq!([2, 3, 4].map(|id| roster.get(EndpointId(id)).copied()), [Some(0), Some(0), Some(40)]);
        // Who leaves is forgotten.
        roster.update(&EndpointSet::default());
        assert_eq!((roster.len(), roster.get(EndpointId(4))), (0, None));
        roster.update(&set(&[(4, "a")]));
        assert_eq!(roster.get(EndpointId(4)), Some(&0));
    }
}
