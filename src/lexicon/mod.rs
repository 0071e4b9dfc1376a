//! WordNet in the binary: which words mean the same, which mean more, which the opposite.
