//! Our protocol buffers and the gRPC code generated from them, without protoc installed.
//!
//! Now: [`hello`], the demo's one RPC. A .proto file joins when a program speaks it.

/// `evenkeel.hello.v1` (hello.proto): the demo's client and server.
pub mod hello {
    /// Version 1.
    pub mod v1 {
        // Generated: comments come from the .proto file, and tonic leaves some helpers without one.
        #![allow(missing_docs)]

        tonic::include_proto!("evenkeel.hello.v1");
    }
}
