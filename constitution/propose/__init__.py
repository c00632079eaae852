"""What models propose, for people to accept: it enters no constitution and no run by itself."""
