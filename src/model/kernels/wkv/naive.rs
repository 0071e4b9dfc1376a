//! The definition of WKV6, written to be read; tests hold the other forms to it.

/// The operator, number by number.
///
/// # Shapes
/// Slices, row-major: `r`, `k`, `v`, `w`: (B, T, H N), `u`: (H, N); the last argument is [B, T, H, N]
/// -> (B, T, H N)
pub fn wkv(
    r: &[f64],
    k: &[f64],
    v: &[f64],
    w: &[f64],
    u: &[f64],
    [batch, tokens, heads, n]: [usize; 4],
) -> Vec<f64> {
    let mut y = vec![0.0; r.len()];
    for b in 0..batch {
        for h in 0..heads {
            let at = |t: usize, i: usize| ((b * tokens + t) * heads + h) * n + i;
            let mut forth = vec![vec![0.0; n]; n];
            for t in 0..tokens {
                for key in 0..n {
                    for value in 0..n {
                        let kv = k[at(t, key)] * v[at(t, value)];
                        let state = &mut forth[key][value];
                        y[at(t, value)] += r[at(t, key)] * (*state + u[h * n + key] * kv);
                        *state = (-w[at(t, key)].exp()).exp() * *state + kv;
                    }
                }
            }
            let mut back = vec![vec![0.0; n]; n];
            for t in (0..tokens).rev() {
                for key in 0..n {
                    for value in 0..n {
                        let kv = k[at(t, key)] * v[at(t, value)];
                        let state = &mut back[key][value];
                        y[at(t, value)] += r[at(t, key)] * *state;
                        *state = (-w[at(t, key)].exp()).exp() * *state + kv;
                    }
                }
            }
        }
    }
    y
}
