"""Amazon SQS and DynamoDB for queuekit: a broker and a result backend.

- ``plugin``: what core asks for first; imports no client library;
- ``options``, ``urls``: what a URL and the config tables ``[sqs]`` and ``[dynamodb]`` say;
- ``limits``: what the two services can do;
- ``servertime``, ``crew``, ``failures``, ``service``: from a request to its answer, or to one clear error;
- ``queues``: names and addresses of queues; ``wire``: messages as SQS has them; ``payloads``: large bodies in S3;
- ``batches``, ``receiving``, ``settling``, ``letters``, ``broker``: the contract of a broker, over the above;
- ``items``, ``table``, ``backend``: the contract of a backend, over DynamoDB.
"""
