-- Acknowledges plain messages. KEYS: queue. ARGV: window, nonce, then ids and tokens. Returns the indexes of those
-- refused.
return settle_plain(3, 2)
