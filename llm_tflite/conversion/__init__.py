"""From a Keras model to a checked artifact, one plan for each layout."""
