"""What `eventpulse up` needs on one machine: the supervisor and the embedded servers."""
