#![crate_type="lib"]
fn go<R>(f: impl FnOnce() -> R) -> R { f() }
pub fn x(a: &mut [f32]) { let f = #[inline(always)] || for v in a.iter_mut() { *v += 1.0; }; go(f) }
