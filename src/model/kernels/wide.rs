//! Plain loops, compiled once for each width of vector registers, the widest chosen when they run.

/// Defines functions over `T: Real` whose loops the compiler may turn into AVX-512 or AVX2
/// instructions with fused multiply-add, where the processor has them. What they call has to be
/// `#[inline(always)]`: a call that stays a call runs the narrow code. (`pulp`, which candle's
/// products of matrices use, does the same for closures, but large ones are not inlined into it.)
macro_rules! wide {
    ($($(#[$about:meta])* $public:vis fn $name:ident<T: Real>($($arg:ident: $type:ty),* $(,)?)
        $(-> $result:ty)? $body:block)*) => {$(
        $(#[$about])*
        #[allow(clippy::too_many_arguments)]
        $public fn $name<T: Real>($($arg: $type),*) $(-> $result)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn plain<T: Real>($($arg: $type),*) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn of_512<T: Real>($($arg: $type),*) $(-> $result)? {
                    plain($($arg),*)
                }

                #[target_feature(enable = "avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn of_256<T: Real>($($arg: $type),*) $(-> $result)? {
                    plain($($arg),*)
                }

                if is_x86_feature_detected!("fma") && is_x86_feature_detected!("avx2") {
                    if is_x86_feature_detected!("avx512f")
                        && is_x86_feature_detected!("avx512vl")
                        && is_x86_feature_detected!("avx512dq")
                        && is_x86_feature_detected!("avx512bw")
                    {
                        // SAFETY: the processor has what the function was compiled for.
                        return unsafe { of_512($($arg),*) };
                    }
                    // SAFETY: as above.
                    return unsafe { of_256($($arg),*) };
                }
            }
            plain($($arg),*)
        }
    )*};
}
