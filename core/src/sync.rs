//! The atomics of what is checked with loom: the standard library's in every build, and loom's in its models. Those try every
//! order in which threads can come to them, and every old value that memory orderings let a thread see.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p lb-core --lib loom_models` runs the models, in modules of that name beside what they
//! check. Ordinary unit tests do not run under that flag, as loom's atomics work in its models only.

#[cfg(all(test, loom))]
pub(crate) use loom::sync::atomic::{
    AtomicBool, AtomicI32, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};
#[cfg(not(all(test, loom)))]
pub(crate) use std::sync::atomic::{
    AtomicBool, AtomicI32, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};
