"""Reading, checking and describing settings; ``stream_ensemble.settings_file`` is the way in."""
