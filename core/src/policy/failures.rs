//! Which ends of requests are failures of the endpoint, for the policies that hold back endpoints by them.

use serde::{Deserialize, Serialize};

use crate::Code;

/// Which status codes count as failures of the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Failures {
    /// Whatever is not OK: gRPC (gRFC A50 counts "successes and failures"; grpc-go takes any error for a failure). A
    /// NOT_FOUND is one, and so is a caller's CANCELLED.
    NotOk,
    /// What Envoy takes for a 5xx (`Grpc::Utility::grpcToHttpStatus`): UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL,
    /// UNAVAILABLE and DATA_LOSS.
    #[serde(rename = "http_5xx")]
    Http5xx,
    /// What Linkerd takes for one (`client_policy::grpc::Codes`): UNKNOWN, DEADLINE_EXCEEDED, PERMISSION_DENIED, INTERNAL,
    /// UNAVAILABLE and DATA_LOSS.
    Linkerd,
}

impl Failures {
    #[inline]
    pub(super) fn include(self, code: Code) -> bool {
        use Code::{DataLoss, DeadlineExceeded, Internal, PermissionDenied, Unavailable, Unimplemented, Unknown};
        let of_the_server = matches!(code, Unknown | DeadlineExceeded | Internal | Unavailable | DataLoss);
        match self {
            Self::NotOk => code != Code::Ok,
            Self::Http5xx => of_the_server || code == Unimplemented,
            Self::Linkerd => of_the_server || code == PermissionDenied,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(failures: Failures) -> Vec<u32> {
        Code::ALL.into_iter().filter(|&code| failures.include(code)).map(|code| code as u32).collect()
    }

    #[test]
    fn each_takes_other_codes_for_failures() {
        assert_eq!(numbers(Failures::NotOk), (1..=16).collect::<Vec<_>>());
        assert_eq!(numbers(Failures::Http5xx), [2, 4, 12, 13, 14, 15]);
        assert_eq!(numbers(Failures::Linkerd), [2, 4, 7, 13, 14, 15]);
    }
}
