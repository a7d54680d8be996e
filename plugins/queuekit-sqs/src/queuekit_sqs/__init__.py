"""Amazon SQS and DynamoDB for queuekit: a broker and a result backend.

- ``plugin``: the hooks that core calls first; imports no client library;
- ``options``, ``urls``: the options of a URL and of the config tables ``[sqs]`` and ``[dynamodb]``;
- ``capabilities``: the capabilities of the two services;
- ``servertime``, ``request_pool``, ``failures``, ``service``: make requests, and return the reply or one clear error;
- ``queues``: names and URLs of queues; ``messages``: the format of messages; ``payloads``: large bodies in S3;
- ``batches``, ``claiming``, ``settling``, ``dead_letters``, ``broker``: the contract of a broker, on SQS;
- ``items``, ``table``, ``backend``: the contract of a backend, on DynamoDB.
"""
