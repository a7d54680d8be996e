-- Acknowledgements of usual messages. KEYS: queue. ARGV: window, nonce, then ids and tokens. Returns the places of
-- those refused.
return settle_plain(3, 2)
