//! Published class names and sentences of data sets, by name.
