"""The blind listening test: what is heard, in which order, by whom, and what comes of it.

A study is a folder: `study.json` says what is compared and how, `clips/` holds the sounds under
opaque names, `ratings.sqlite` the answers, and `listening.json` the results.
"""
