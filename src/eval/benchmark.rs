//! A user's own pictures and the limits that a model has to keep on them.
