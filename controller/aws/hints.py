"""SQS: how much waits in a session's input queue."""

from __future__ import annotations

from botocore.exceptions import ClientError

from controller.aws.client import QUEUE_MISSING, SqsCalls, part, safe_url, translating

_COUNTS = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)


class Queues:
    """Looks into the sessions' input queues."""

    def __init__(self, client: SqsCalls, *, region: str = "") -> None:
        self._client = client
        self._region = region

    def depth(self, queue_url: str) -> int:
        """Return the messages that are visible, in flight or delayed: each is somebody's word that is still to be read.

        0 when there is no such queue, or the text is no queue's URL. Raises AwsError when it cannot be told.
        """
        if not queue_url.lower().startswith(("http://", "https://")):
            return 0
        with translating("GetQueueAttributes", queue=safe_url(queue_url), region=self._region):
            try:
                answer = self._client.get_queue_attributes(QueueUrl=queue_url, AttributeNames=list(_COUNTS))
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") in QUEUE_MISSING:
                    return 0
                raise
            counts = part(answer, "Attributes")
        return sum(int(counts.get(name, 0)) for name in _COUNTS)
