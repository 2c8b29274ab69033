"""Generated images with exact masks: for the demo, the tests and pretraining the bundled tiny model."""
