"""Small, boring foundations: validation, randomness, progress, parallel work, files, extras. No algorithms."""
