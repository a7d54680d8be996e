"""RabbitMQ for queuekit: a broker over AMQP 0-9-1.

- ``plugin``: the hooks that core calls first; imports no client library;
- ``options``, ``urls``: the options of a URL and of the config table ``[amqp]``;
- ``capabilities``: the capabilities of RabbitMQ;
- ``frames``, ``connection``, ``channel``, ``confirms``: speak the protocol, and report a failure as one clear error;
- ``layout``: names and arguments of queues and exchanges; ``topology``: declares them;
- ``messages``: the format of messages; ``marks``: claims that are no crashes;
- ``leases``, ``sending``, ``claiming``, ``waiting``, ``settling``, ``inspection``, ``broker``: the contract.
"""
