"""The voice pipeline: frames of a microphone in, words and audio out, timed on one clock."""
