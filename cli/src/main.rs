//! The `djinn` program.
fn main() {}
