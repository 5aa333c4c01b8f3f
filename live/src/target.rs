//! Where the client sends to: one `host:port`, in plaintext.

use std::fmt;
use std::str::FromStr;

use tonic::codegen::http::Uri;
use tonic::codegen::http::uri::Authority;

/// A `host:port`, with or without `http://` before it.
///
/// ```
/// use live::target::Target;
/// let short: Target = "server:50051".parse()?;
/// let long: Target = "http://server:50051".parse()?;
/// assert_eq!(short, long);
/// assert!("dns:///server:50051".parse::<Target>().is_err());
/// # Ok::<(), live::target::ParseTargetError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target(Authority);

impl Target {
    /// As a URI, which is what a tonic endpoint is made from.
    pub fn uri(&self) -> Uri {
        Uri::builder()
            .scheme("http")
            .authority(self.0.clone())
            .path_and_query("/")
            .build()
            .expect("a scheme, a valid authority and a path make a URI")
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.0)
    }
}

/// Why a text is not a target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseTargetError {
    /// gRPC's DNS scheme, whose point is to balance over every address of the name.
    #[error(
        "`{0}` asks for client-side balancing over every address of a name, which this client does not do yet; \
         write `host:port` to send everything over one connection"
    )]
    Balancing(String),
    /// A scheme other than `http`.
    #[error(
        "`{text}` has the scheme `{scheme}`, but only plaintext `http` is spoken; write `http://host:port` or `host:port`"
    )]
    Scheme {
        /// What was given.
        text: String,
        /// Its scheme.
        scheme: String,
    },
    /// Not a host and a port.
    #[error(
        "`{0}` is not `host:port` with a port from 1 to 65535; write for example `127.0.0.1:50051` or `[::1]:50051`"
    )]
    HostPort(String),
}

impl FromStr for Target {
    type Err = ParseTargetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with("dns:") {
            return Err(ParseTargetError::Balancing(text.to_owned()));
        }
        let host_port = match text.split_once("://") {
            None => text,
            Some(("http", rest)) => rest.strip_suffix('/').unwrap_or(rest),
            Some((scheme, _)) => {
                return Err(ParseTargetError::Scheme { text: text.to_owned(), scheme: scheme.to_owned() });
            }
        };
        match host_port.parse::<Authority>() {
            Ok(a) if !a.host().is_empty() && a.port_u16().is_some_and(|p| p > 0) && !a.as_str().contains('@') => {
                Ok(Self(a))
            }
            _ => Err(ParseTargetError::HostPort(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_and_a_port_are_a_target() {
        for (text, uri) in [
            ("127.0.0.1:50051", "http://127.0.0.1:50051/"),
            ("http://server:50051/", "http://server:50051/"),
            ("server.clusterip.svc.cluster.local.:50051", "http://server.clusterip.svc.cluster.local.:50051/"),
            ("[::1]:50051", "http://[::1]:50051/"),
        ] {
            assert_eq!(text.parse::<Target>().unwrap().uri().to_string(), uri);
        }
    }

    #[test]
    fn an_error_names_the_offender_the_rule_and_the_remedy() {
        let not_host_port =
            "is not `host:port` with a port from 1 to 65535; write for example `127.0.0.1:50051` or `[::1]:50051`";
        for text in
            ["", "server", ":50051", "server:0", "server:65536", "server:grpc", "http://server:1/x", "me@server:1"]
        {
            assert_eq!(text.parse::<Target>().unwrap_err().to_string(), format!("`{text}` {not_host_port}"));
        }
        assert_eq!(
            "dns:///server:50051".parse::<Target>().unwrap_err().to_string(),
            "`dns:///server:50051` asks for client-side balancing over every address of a name, which this client does \
             not do yet; write `host:port` to send everything over one connection"
        );
        assert_eq!(
            "https://server:50051".parse::<Target>().unwrap_err().to_string(),
            "`https://server:50051` has the scheme `https`, but only plaintext `http` is spoken; write \
             `http://host:port` or `host:port`"
        );
    }
}
