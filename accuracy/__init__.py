"""Prediction against measurement: fitting tools and accuracy reports. Not part of the installed package."""
