"""One file a study; each defines STUDY."""
