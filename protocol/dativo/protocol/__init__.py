"""Messages of both dialects, catalogues, states, the native handshake and the control messages."""
