"""Speed of language models: load measurements, fit the calibration, report accuracy."""
