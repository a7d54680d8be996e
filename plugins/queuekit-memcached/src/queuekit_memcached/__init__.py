"""Memcached for queuekit: results as items that it may forget.

From the bottom up:

- ``capabilities`` and ``options``: what it can do, and the options of a URL and of the config table ``[memcached]``;
- ``urls``: the servers of a URL;
- ``encoding``: keys and values;
- ``protocol``: commands and replies;
- ``failures``: errors that name the server and the fix;
- ``connection``: one connection to one server;
- ``servers``: which server has a key, and calls that go to several;
- ``checks``: what an operator should know;
- ``backend``: the contract, whose methods call the modules above;
- ``plugin``: the hooks that core calls first.

It speaks the protocol itself. A client library would send a conditional write for each record, one after the other, and
would know neither forks nor the time that a caller has left.
"""
