//! WKV6 as a scan over tokens, one head of one sample at a time: the state fits the nearest cache,
//! and the inner loops run along it in wide registers.
//!
//! On the CPU this is quicker than the chunked form, which trades the state's traffic, cheap here,
//! for many more multiplications.

use super::super::Real;
use super::super::dot;

/// Tokens between the states that the backward pass keeps; the states between are computed again.
/// All of them would be T N² numbers a head: 1.25 MB for the image tower, out of cache.
const SEGMENT: usize = 8;

/// r, k, v, w of one head of one sample, (T, N) each. Keys and values have N channels each.
pub(super) struct Head<T> {
    tokens: usize,
    n: usize,
    r: Vec<T>,
    k: Vec<T>,
    v: Vec<T>,
    w: Vec<T>,
    /// exp(-exp(w)), once [`Head::decays`] has run.
    a: Vec<T>,
}

/// Head `i % heads` of sample `i / heads` of (B, T, H N), as (T, N).
pub(super) fn columns<T: Real>(x: &[T], t: usize, heads: usize, n: usize, i: usize) -> Vec<T> {
    let (sample, head) = (i / heads, i % heads);
    let rows = x[sample * t * heads * n..].chunks_exact(heads * n).take(t);
    rows.flat_map(|row| &row[head * n..(head + 1) * n]).copied().collect()
}

impl<T: Real> Head<T> {
    /// Out of (4, B, T, H N).
    pub(super) fn gather(rkvw: &[T], tokens: usize, heads: usize, n: usize, i: usize) -> Head<T> {
        let plane = rkvw.len() / 4;
        let part = |j: usize| columns(&rkvw[j * plane..][..plane], tokens, heads, n, i);
        Head { tokens, n, r: part(0), k: part(1), v: part(2), w: part(3), a: Vec::new() }
    }

    pub(super) fn decays(&mut self) {
        self.a = vec![T::zero(); self.w.len()];
        decays(&self.w, &mut self.a);
    }

    /// y_t += (r_t · u ⊙ k_t) v_t
    pub(super) fn bonus(&self, u: &[T], y: &mut [T]) {
        let n = self.n;
        for (t, y) in y.chunks_exact_mut(n).enumerate() {
            let here = t * n..(t + 1) * n;
            let (r, k, v) = (&self.r[here.clone()], &self.k[here.clone()], &self.v[here]);
            let own: T = r.iter().zip(u).zip(k).map(|((&r, &u), &k)| r * u * k).sum();
            for (y, &v) in y.iter_mut().zip(v) {
                *y += own * v;
            }
        }
    }

    /// y_t += r_t · state, then the state passes token t; tokens in the order given. The state is
    /// (key, value), so that both loops run along values.
    pub(super) fn read(&self, order: impl Iterator<Item = usize>, state: &mut [T], y: &mut [T]) {
        let n = self.n;
        for t in order {
            let here = t * n..(t + 1) * n;
            let (r, k, v) = (&self.r[here.clone()], &self.k[here.clone()], &self.v[here.clone()]);
            let (a, y) = (&self.a[here.clone()], &mut y[here]);
            read_and_pass(r, k, v, a, state, y);
        }
    }

    /// `found`: gradients of r, k, v, w, (T, N) each; `du`: (N); `g`: that of y.
    pub(super) fn gradients(&self, u: &[T], g: &[T], found: &mut [T], du: &mut [T]) {
        let one = self.tokens * self.n;
        let (dr, rest) = found.split_at_mut(one);
        let (dk, rest) = rest.split_at_mut(one);
        let (dv, dw) = rest.split_at_mut(one);
        self.bonus_gradients(u, g, [dr, dk, dv], du);
        let forth: Vec<usize> = (0..self.tokens).collect();
        let back: Vec<usize> = (0..self.tokens).rev().collect();
        for order in [forth, back] {
            self.half_gradients(&order, g, [dr, dk, dv, dw]);
        }
        // dw holds the gradient of a up to here: da/dw = a · -exp(w).
        decays_back(&self.w, &self.a, dw);
    }

    fn bonus_gradients(&self, u: &[T], g: &[T], [dr, dk, dv]: [&mut [T]; 3], du: &mut [T]) {
        let n = self.n;
        for t in 0..self.tokens {
            let here = t * n..(t + 1) * n;
            let (r, k, v) = (&self.r[here.clone()], &self.k[here.clone()], &self.v[here.clone()]);
            let (dr, dk) = (&mut dr[here.clone()], &mut dk[here.clone()]);
            let (dv, g) = (&mut dv[here.clone()], &g[here]);
            let vg = dot(v, g);
            let mut own = T::zero();
            for i in 0..n {
                dr[i] += u[i] * k[i] * vg;
                dk[i] += u[i] * r[i] * vg;
                du[i] += r[i] * k[i] * vg;
                own += r[i] * u[i] * k[i];
            }
            for (dv, &g) in dv.iter_mut().zip(g) {
                *dv += own * g;
            }
        }
    }

    /// One direction. States are (value, key) here: of the five sums that each state takes part in,
    /// four then run along it, and only v's is across.
    fn half_gradients(&self, order: &[usize], g: &[T], [dr, dk, dv, da]: [&mut [T]; 4]) {
        let n = self.n;
        let mut state = vec![T::zero(); n * n];
        let mut starts = Vec::with_capacity(order.len().div_ceil(SEGMENT));
        for segment in order.chunks(SEGMENT) {
            starts.push(state.clone());
            for &t in segment {
                self.pass(t, &mut state);
            }
        }
        let mut adjoint = vec![T::zero(); n * n];
        let mut states: Vec<Vec<T>> = vec![vec![T::zero(); n * n]; SEGMENT];
        for (segment, start) in order.chunks(SEGMENT).zip(&starts).rev() {
            states[0].copy_from_slice(start);
            for i in 1..segment.len() {
                let (before, now) = states.split_at_mut(i);
                now[0].copy_from_slice(&before[i - 1]);
                self.pass(segment[i - 1], &mut now[0]);
            }
            for (&t, state) in segment.iter().zip(&states).rev() {
                let here = t * n..(t + 1) * n;
                let found = [
                    &mut dr[here.clone()],
                    &mut dk[here.clone()],
                    &mut dv[here.clone()],
                    &mut da[here.clone()],
                ];
                self.step_back(t, state, &mut adjoint, &g[here], found);
            }
        }
    }

    /// The state (value, key) passes token t.
    fn pass(&self, t: usize, state: &mut [T]) {
        let here = t * self.n..(t + 1) * self.n;
        let (k, v, a) = (&self.k[here.clone()], &self.v[here.clone()], &self.a[here]);
        pass(k, v, a, state);
    }

    /// `state` is the one read at t, `adjoint` that of the state after t; it becomes that of `state`.
    fn step_back(
        &self,
        t: usize,
        state: &[T],
        adjoint: &mut [T],
        g: &[T],
        [dr, dk, dv, da]: [&mut [T]; 4],
    ) {
        let n = self.n;
        let here = t * n..(t + 1) * n;
        let (r, k, v) = (&self.r[here.clone()], &self.k[here.clone()], &self.v[here.clone()]);
        let a = &self.a[here];
        step_back(r, k, v, a, g, state, adjoint, dr, dk, dv, da);
    }
}

wide! {
    /// Where nothing is left it is zero itself, not the least number that the exponential gives: w may
    /// be so large that the product of both in the gradient would be a number again.
    fn decays<T: Real>(w: &[T], a: &mut [T]) {
        for (a, &w) in a.iter_mut().zip(w) {
            let rate = Real::exp(w);
            *a = if rate > T::from_f64(87.0) { T::zero() } else { (T::zero() - rate).exp() };
        }
    }

    /// da/dw = a · -exp(w); `dw` holds the gradient of a at first.
    fn decays_back<T: Real>(w: &[T], a: &[T], dw: &mut [T]) {
        for ((dw, &a), &w) in dw.iter_mut().zip(a).zip(w) {
            let slope = T::zero() - *dw * a * Real::exp(w);
            *dw = if a == T::zero() { T::zero() } else { slope };
        }
    }

    /// y += r · state, then the state (key, value) passes the token.
    fn read_and_pass<T: Real>(
        r: &[T],
        k: &[T],
        v: &[T],
        a: &[T],
        state: &mut [T],
        y: &mut [T],
    ) {
        let n = y.len();
        let mut rows = state.chunks_exact_mut(4 * n);
        let mut key = 0;
        for four in &mut rows {
            read_four(four, &r[key..], &k[key..], &a[key..], v, y);
            key += 4;
        }
        for row in rows.into_remainder().chunks_exact_mut(n) {
            for ((state, y), &v) in row.iter_mut().zip(y.iter_mut()).zip(v) {
                *y = r[key].mul_add(*state, *y);
                *state = a[key].mul_add(*state, k[key] * v);
            }
            key += 1;
        }
    }

    /// The state (value, key) passes the token.
    fn pass<T: Real>(k: &[T], v: &[T], a: &[T], state: &mut [T]) {
        for (row, &v) in state.chunks_exact_mut(k.len()).zip(v) {
            for ((state, &a), &k) in row.iter_mut().zip(a).zip(k) {
                *state = a.mul_add(*state, v * k);
            }
        }
    }

    fn step_back<T: Real>(
        r: &[T],
        k: &[T],
        v: &[T],
        a: &[T],
        g: &[T],
        state: &[T],
        adjoint: &mut [T],
        dr: &mut [T],
        dk: &mut [T],
        dv: &mut [T],
        da: &mut [T],
    ) {
        let n = k.len();
        let rows = state.chunks_exact(n).zip(adjoint.chunks_exact_mut(n));
        for (((state, adjoint), (&g, &v)), dv) in rows.zip(g.iter().zip(v)).zip(dv) {
            *dv += dot(adjoint, k);
            step_back_row([r, a], state, adjoint, g, v, [&mut *dr, &mut *dk, &mut *da]);
        }
    }
}

/// Four rows of the state at once: y is read and written once for them.
#[inline(always)]
fn read_four<T: Real>(rows: &mut [T], r: &[T], k: &[T], a: &[T], v: &[T], y: &mut [T]) {
    let n = v.len();
    let (s0, rest) = rows.split_at_mut(n);
    let (s1, rest) = rest.split_at_mut(n);
    let (s2, s3) = rest.split_at_mut(n);
    let (s3, y) = (&mut s3[..n], &mut y[..n]);
    for j in 0..n {
        let even = r[0].mul_add(s0[j], r[2] * s2[j]);
        y[j] += r[1].mul_add(s1[j], r[3].mul_add(s3[j], even));
        s0[j] = a[0].mul_add(s0[j], k[0] * v[j]);
        s1[j] = a[1].mul_add(s1[j], k[1] * v[j]);
        s2[j] = a[2].mul_add(s2[j], k[2] * v[j]);
        s3[j] = a[3].mul_add(s3[j], k[3] * v[j]);
    }
}

#[inline(always)]
fn step_back_row<T: Real>(
    [r, a]: [&[T]; 2],
    state: &[T],
    adjoint: &mut [T],
    g: T,
    v: T,
    [dr, dk, da]: [&mut [T]; 3],
) {
    let n = adjoint.len();
    let (r, a, state) = (&r[..n], &a[..n], &state[..n]);
    let (dr, dk, da) = (&mut dr[..n], &mut dk[..n], &mut da[..n]);
    for i in 0..n {
        dr[i] = g.mul_add(state[i], dr[i]);
        dk[i] = v.mul_add(adjoint[i], dk[i]);
        da[i] = adjoint[i].mul_add(state[i], da[i]);
        adjoint[i] = a[i].mul_add(adjoint[i], g * r[i]);
    }
}
