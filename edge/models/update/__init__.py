"""The child process that fetches and checks a model, so that the daemon loads neither TUF nor patches."""
