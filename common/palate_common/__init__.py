"""What devices and the server must agree on."""
