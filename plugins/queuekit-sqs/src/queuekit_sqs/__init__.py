"""Amazon SQS and DynamoDB for queuekit: a broker and a result backend.

- ``plugin``: the hooks that core calls first; imports no client library;
- ``options``, ``urls``: what a URL and the config tables ``[sqs]`` and ``[dynamodb]`` set;
- ``capabilities``: what the two services can do;
- ``servertime``, ``request_pool``, ``failures``, ``service``: make requests, and return the answer or one clear error;
- ``queues``: names and addresses of queues; ``messages``: messages as SQS has them; ``payloads``: large bodies in S3;
- ``batches``, ``claiming``, ``settling``, ``dead_letters``, ``broker``: the contract of a broker, over the above;
- ``items``, ``table``, ``backend``: the contract of a backend, over DynamoDB.
"""
