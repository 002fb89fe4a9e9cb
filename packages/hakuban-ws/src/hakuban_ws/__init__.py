"""WebSocket transport (ws, wss)."""
