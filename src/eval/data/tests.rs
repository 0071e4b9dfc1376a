//! Parsers over small real files.
