//! Models on disk: folders, their files and hashes, and the ONNX Runtime library. No inference.
pub mod folder;
pub mod pip;
pub mod pull;
pub mod runtime;
