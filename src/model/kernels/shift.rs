//! The neighbour that each channel looks at, and the mix of a token with its neighbours.

use std::ops::Range;

use candle_core::Result;
use candle_core::Shape;
use candle_core::Tensor;
use rayon::iter::IndexedParallelIterator;
use rayon::iter::IntoParallelIterator;
use rayon::iter::ParallelIterator;
use rayon::slice::ParallelSlice;
use rayon::slice::ParallelSliceMut;

use super::Kernel;
use super::Real;
use super::add_all;
use super::apply2;
use super::apply3;

/// Which neighbour each channel takes. The channels of every head are divided alike; where there is
/// no neighbour, zero is taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shift {
    /// Images: the quarters of a head take the token on the left, on the right, above, below.
    Grid {
        /// Tokens from top to bottom.
        rows: usize,
        /// Tokens from left to right.
        columns: usize,
        /// Channels of a head.
        head: usize,
    },
    /// Texts: the halves of a head take the token before and the token after.
    Line {
        /// Channels of a head.
        head: usize,
    },
}

impl Shift {
    /// Every token replaced by its neighbours, in plain candle operations.
    ///
    /// # Shapes
    /// `x`: (B, T, C) -> (B, T, C)
    ///
    /// # Errors
    /// When T is not the grid's, or C is not made of whole heads.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let (b, t, c) = x.dims3()?;
        self.check(t, c)?;
        let n = self.head();
        match *self {
            Shift::Line { .. } => {
                let x = x.reshape((b, t, c / n, n))?;
                let before = x.narrow(3, 0, n / 2)?.pad_with_zeros(1, 1, 0)?.narrow(1, 0, t)?;
                let after = x.narrow(3, n / 2, n - n / 2)?.pad_with_zeros(1, 0, 1)?;
                let after = after.narrow(1, 1, t)?;
                Tensor::cat(&[before, after], 3)?.reshape((b, t, c))
            }
            Shift::Grid { rows, columns, .. } => {
                let x = x.reshape((b, rows, columns, c / n, n))?;
                let q = n / 4;
                let left = x.narrow(4, 0, q)?.pad_with_zeros(2, 1, 0)?.narrow(2, 0, columns)?;
                let right = x.narrow(4, q, q)?.pad_with_zeros(2, 0, 1)?.narrow(2, 1, columns)?;
                let above = x.narrow(4, 2 * q, q)?.pad_with_zeros(1, 1, 0)?.narrow(1, 0, rows)?;
                let below = x.narrow(4, 3 * q, n - 3 * q)?.pad_with_zeros(1, 0, 1)?;
                let below = below.narrow(1, 1, rows)?;
                Tensor::cat(&[left, right, above, below], 4)?.reshape((b, t, c))
            }
        }
    }

    fn head(&self) -> usize {
        match *self {
            Shift::Grid { head, .. } | Shift::Line { head } => head,
        }
    }

    fn check(&self, tokens: usize, channels: usize) -> Result<()> {
        if let Shift::Grid { rows, columns, .. } = *self
            && rows * columns != tokens
        {
            candle_core::bail!("{tokens} tokens are not a grid of {rows} x {columns}");
        }
        if self.head() == 0 || !channels.is_multiple_of(self.head()) {
            candle_core::bail!("{channels} channels are not heads of {} channels", self.head());
        }
        Ok(())
    }

    /// The parts of a head, and the token each takes, seen from token `t` of `tokens`.
    fn neighbours(&self, t: usize, tokens: usize) -> [(Range<usize>, Option<usize>); 4] {
        let before = |there: bool, step: usize| there.then(|| t - step);
        let after = |there: bool, step: usize| there.then(|| t + step);
        match *self {
            Shift::Line { head } => [
                (0..head / 2, before(t > 0, 1)),
                (head / 2..head, after(t + 1 < tokens, 1)),
                (head..head, None),
                (head..head, None),
            ],
            Shift::Grid { rows, columns, head } => {
                let (row, column, q) = (t / columns, t % columns, head / 4);
                [
                    (0..q, before(column > 0, 1)),
                    (q..2 * q, after(column + 1 < columns, 1)),
                    (2 * q..3 * q, before(row > 0, columns)),
                    (3 * q..head, after(row + 1 < rows, columns)),
                ]
            }
        }
    }

    /// Token `t` of the shifted `x` (tokens, channels).
    fn gather<T: Real>(&self, x: &[T], t: usize, row: &mut [T]) {
        let (c, n) = (row.len(), self.head());
        for (part, from) in self.neighbours(t, x.len() / c) {
            for at in (0..c).step_by(n) {
                let to = &mut row[at + part.start..at + part.end];
                match from {
                    Some(from) => {
                        to.copy_from_slice(&x[from * c + at + part.start..][..part.len()])
                    }
                    None => to.fill(T::zero()),
                }
            }
        }
    }

    /// The gradient's way back: what token `t` gave is added to where it was taken from.
    fn scatter<T: Real>(&self, row: &[T], t: usize, x: &mut [T]) {
        let (c, n) = (row.len(), self.head());
        for (part, to) in self.neighbours(t, x.len() / c) {
            let Some(to) = to else { continue };
            for at in (0..c).step_by(n) {
                let to = &mut x[to * c + at + part.start..][..part.len()];
                for (to, &from) in to.iter_mut().zip(&row[at + part.start..at + part.end]) {
                    *to += from;
                }
            }
        }
    }
}

/// x + (shift(x) - x) ⊙ mix, the same mix for every token.
///
/// # Shapes
/// `x`: (B, T, C), `mix`: (C) -> (B, T, C)
pub(crate) fn shift_lerp(x: &Tensor, mix: &Tensor, shift: Shift) -> Result<Tensor> {
    let (_, tokens, width) = x.dims3()?;
    shift.check(tokens, width)?;
    apply2(Lerp { shift, tokens, width }, x, mix)
}

/// x + (shift(x) - x) ⊙ (mix + own): a mix for all tokens, and one that each token chose.
///
/// # Shapes
/// `x`, `own`: (B, T, C), `mix`: (C) -> (B, T, C)
pub(crate) fn shift_lerp_by_token(
    x: &Tensor,
    own: &Tensor,
    mix: &Tensor,
    shift: Shift,
) -> Result<Tensor> {
    let (_, tokens, width) = x.dims3()?;
    shift.check(tokens, width)?;
    apply3(Lerp { shift, tokens, width }, x, mix, own)
}

struct Lerp {
    shift: Shift,
    tokens: usize,
    width: usize,
}

impl Lerp {
    fn mix<T: Real>(&self, x: &[T], mix: &[T], own: Option<&[T]>, out: &mut [T]) {
        let (t, c) = (self.tokens, self.width);
        out.par_chunks_mut(c).with_min_len(super::ROWS).enumerate().for_each_init(
            || vec![T::zero(); c],
            |shifted, (i, out)| {
                let picture = &x[i / t * t * c..][..t * c];
                self.shift.gather(picture, i % t, shifted);
                let x = &x[i * c..][..c];
                match own {
                    None => lerp_row(x, shifted, mix, out),
                    Some(own) => lerp_row_by_token(x, shifted, mix, &own[i * c..][..c], out),
                }
            },
        );
    }

    /// Of one picture or text: its dx, its `own`'s gradient, and its share of the mix's.
    fn unmix<T: Real>(
        &self,
        x: &[T],
        mix: &[T],
        own: Option<&[T]>,
        grad: &[T],
        dx: &mut [T],
        mut down: Option<&mut [T]>,
    ) -> Vec<T> {
        let c = self.width;
        let (mut dmix, mut row) = (vec![T::zero(); c], vec![T::zero(); c]);
        for t in 0..self.tokens {
            let here = t * c..(t + 1) * c;
            let (token, grad) = (&x[here.clone()], &grad[here.clone()]);
            self.shift.gather(x, t, &mut row);
            let to = &mut dx[here.clone()];
            match (own, &mut down) {
                (Some(own), Some(down)) => {
                    let (own, down) = (&own[here.clone()], &mut down[here]);
                    unlerp_row_by_token(token, mix, own, grad, &mut row, to, &mut dmix, down);
                }
                _ => unlerp_row(token, mix, grad, &mut row, to, &mut dmix),
            }
            self.shift.scatter(&row, t, dx);
        }
        dmix
    }
}

impl Kernel<2> for Lerp {
    const NAME: &'static str = "shift-lerp";

    fn shape(&self, [x, _]: [&Shape; 2]) -> Shape {
        x.clone()
    }

    fn forward<T: Real>(&self, [x, mix]: [&[T]; 2], out: &mut [T]) {
        self.mix(x, mix, None, out);
    }

    fn backward<T: Real>(
        &self,
        [x, mix]: [&[T]; 2],
        _: &[T],
        grad: &[T],
        [dx, dmix]: [&mut [T]; 2],
    ) {
        let one = self.tokens * self.width;
        let all = dx.par_chunks_mut(one).zip(x.par_chunks(one)).zip(grad.par_chunks(one));
        let parts = all.map(|((dx, x), grad)| self.unmix(x, mix, None, grad, dx, None));
        add_all(dmix, parts.collect::<Vec<_>>());
    }

    fn twin(&self, [x, mix]: [&Tensor; 2]) -> Result<Tensor> {
        x + (self.shift.apply(x)? - x)?.broadcast_mul(mix)?
    }
}

impl Kernel<3> for Lerp {
    const NAME: &'static str = "shift-lerp-by-token";

    fn shape(&self, [x, _, _]: [&Shape; 3]) -> Shape {
        x.clone()
    }

    fn forward<T: Real>(&self, [x, mix, own]: [&[T]; 3], out: &mut [T]) {
        self.mix(x, mix, Some(own), out);
    }

    fn backward<T: Real>(
        &self,
        [x, mix, own]: [&[T]; 3],
        _: &[T],
        grad: &[T],
        [dx, dmix, down]: [&mut [T]; 3],
    ) {
        let one = self.tokens * self.width;
        let gradients = dx.par_chunks_mut(one).zip(down.par_chunks_mut(one));
        let inputs = x.par_chunks(one).zip(own.par_chunks(one)).zip(grad.par_chunks(one));
        let parts = gradients.into_par_iter().zip(inputs).map(|((dx, down), ((x, own), grad))| {
            self.unmix(x, mix, Some(own), grad, dx, Some(down))
        });
        add_all(dmix, parts.collect::<Vec<_>>());
    }

    fn twin(&self, [x, mix, own]: [&Tensor; 3]) -> Result<Tensor> {
        x + (self.shift.apply(x)? - x)?.mul(&own.broadcast_add(mix)?)?
    }
}

wide! {
    fn lerp_row<T: Real>(x: &[T], shifted: &[T], mix: &[T], out: &mut [T]) {
        for (((out, &x), &shifted), &mix) in out.iter_mut().zip(x).zip(shifted).zip(mix) {
            *out = (shifted - x).mul_add(mix, x);
        }
    }

    fn lerp_row_by_token<T: Real>(x: &[T], shifted: &[T], mix: &[T], own: &[T], out: &mut [T]) {
        let mixes = mix.iter().zip(own);
        for (((out, &x), &shifted), (&mix, &own)) in out.iter_mut().zip(x).zip(shifted).zip(mixes) {
            *out = (shifted - x).mul_add(mix + own, x);
        }
    }

    /// `row` is the shifted token, and becomes its gradient.
    fn unlerp_row<T: Real>(
        x: &[T],
        mix: &[T],
        grad: &[T],
        row: &mut [T],
        dx: &mut [T],
        dmix: &mut [T],
    ) {
        let c = dx.len();
        let (x, mix, grad) = (&x[..c], &mix[..c], &grad[..c]);
        let (row, dmix) = (&mut row[..c], &mut dmix[..c]);
        for j in 0..c {
            dmix[j] = grad[j].mul_add(row[j] - x[j], dmix[j]);
            row[j] = grad[j] * mix[j];
            dx[j] += grad[j] - row[j];
        }
    }

    /// As [`unlerp_row`], with the token's own mix and its gradient.
    fn unlerp_row_by_token<T: Real>(
        x: &[T],
        mix: &[T],
        own: &[T],
        grad: &[T],
        row: &mut [T],
        dx: &mut [T],
        dmix: &mut [T],
        down: &mut [T],
    ) {
        let c = dx.len();
        let (x, mix, own, grad) = (&x[..c], &mix[..c], &own[..c], &grad[..c]);
        let (row, dmix, down) = (&mut row[..c], &mut dmix[..c], &mut down[..c]);
        for j in 0..c {
            down[j] = grad[j] * (row[j] - x[j]);
            dmix[j] += down[j];
            row[j] = grad[j] * (mix[j] + own[j]);
            dx[j] += grad[j] - row[j];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::kernels::tests::agrees;
    use crate::model::kernels::tests::numbers;

    #[test]
    fn mixes_agree_with_their_twins() {
        let shifts = [
            (Shift::Grid { rows: 3, columns: 4, head: 8 }, 12, 24),
            (Shift::Grid { rows: 1, columns: 1, head: 10 }, 1, 20),
            (Shift::Line { head: 6 }, 7, 18),
            (Shift::Line { head: 3 }, 1, 3),
        ];
        for (shift, t, c) in shifts {
            let kernel = Lerp { shift, tokens: t, width: c };
            agrees(
                |[x, mix]| shift_lerp(x, mix, shift),
                |inputs| Kernel::<2>::twin(&kernel, inputs),
                [numbers((3, t, c), 1), numbers(c, 2)],
            );
            agrees(
                |[x, mix, own]| shift_lerp_by_token(x, own, mix, shift),
                |inputs| Kernel::<3>::twin(&kernel, inputs),
                [numbers((3, t, c), 1), numbers(c, 2), numbers((3, t, c), 3)],
            );
        }
    }

    #[test]
    fn a_wrong_grid_is_an_error() {
        let x = numbers((1, 6, 8), 1);
        let shift = Shift::Grid { rows: 2, columns: 4, head: 8 };
        assert!(shift.apply(&x).unwrap_err().to_string().contains("not a grid of 2 x 4"));
        assert!(Shift::Line { head: 3 }.apply(&x).is_err());
    }
}
