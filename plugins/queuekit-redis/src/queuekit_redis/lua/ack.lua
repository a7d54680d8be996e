-- Acknowledgements of usual messages. KEYS: queue. ARGV: window, nonce, then ids and tokens. Returns the places of
-- those refused.
return let_go(3, 2)
