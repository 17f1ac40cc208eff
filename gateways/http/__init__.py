"""The HTTP and WebSocket door, in the dialect of Binance USD-M futures."""
