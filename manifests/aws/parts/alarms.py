"""When a person should look: the controller is silent, rounds fail, work is not saved, rows cannot be read."""

from __future__ import annotations

from aws_cdk import Duration, Token
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sns as sns
from constructs import Construct

from manifests.aws.settings import Settings

FIVE_MINUTES = Duration.minutes(5)


class Alarms(Construct):
    """The controller's alarms. They read its log, so that they need neither Prometheus nor more permissions."""

    def __init__(self, scope: Construct, name: str, settings: Settings, group: logs.ILogGroup) -> None:
        super().__init__(scope, name)
        self._prefix = settings.prefix
        self._topic = sns.Topic.from_topic_arn(self, "Topic", settings.alarm_topic) if settings.alarm_topic else None
        lines = cloudwatch.Metric(
            namespace="AWS/Logs",
            metric_name="IncomingLogEvents",
            dimensions_map={"LogGroupName": group.log_group_name},
            statistic="Sum",
            period=FIVE_MINUTES,
        )
        self._alarm(
            "Silent",
            lines,
            1,
            "The controller wrote no line for 5 minutes, where it writes one a minute. Nothing starts or stops.",
            below=True,
        )
        errors = self._count(group, "Errors", '{ $.level = "error" }')
        self._alarm("RoundsFail", errors, 5, "Rounds fail. The log says what of: reason and code.")
        quarantined = self._count(group, "Quarantined", '{ $.reason = "RowQuarantined" }')
        self._alarm("RowsUnreadable", quarantined, 1, "A row cannot be read; it protects its container for 24 hours.")
        unsaved = self._count(group, "Unsaved", '{ $.reason = "SaveFailed" }')
        self._alarm("WorkNotSaved", unsaved, 1, "A container's work could not be saved; it is kept for saveHold.")

    def hints(self, dead: str, queue: str) -> None:
        """Watch the hint queues, too."""
        self._alarm("HintsRefused", _queue(dead, "ApproximateNumberOfMessagesVisible"), 1, "Hints were not understood.")
        self._alarm(
            "HintsWait",
            _queue(queue, "ApproximateAgeOfOldestMessage"),
            300,
            "Nobody takes hints; the controller polls or is gone.",
        )

    def _count(self, group: logs.ILogGroup, name: str, pattern: str) -> cloudwatch.Metric:
        found = logs.MetricFilter(
            self,
            f"{name}Filter",
            log_group=group,
            metric_namespace=f"{self._prefix}/controller",
            metric_name=name,
            filter_pattern=logs.FilterPattern.literal(pattern),
            metric_value="1",
            default_value=0,
        )
        return found.metric(statistic="Sum", period=FIVE_MINUTES)

    def _alarm(
        self, name: str, metric: cloudwatch.IMetric, threshold: int, description: str, *, below: bool = False
    ) -> None:
        alarm = cloudwatch.Alarm(
            self,
            name,
            alarm_name=f"{self._prefix}-{name}",
            alarm_description=description,
            metric=metric,
            threshold=threshold,
            evaluation_periods=1,
            comparison_operator=cloudwatch.ComparisonOperator.LESS_THAN_THRESHOLD
            if below
            else cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
            # No lines at all is what the first alarm is about; elsewhere nothing counted is nothing wrong.
            treat_missing_data=cloudwatch.TreatMissingData.BREACHING
            if below
            else cloudwatch.TreatMissingData.NOT_BREACHING,
        )
        if self._topic is not None:
            alarm.add_alarm_action(actions.SnsAction(self._topic))


def _queue(name: str, metric: str) -> cloudwatch.Metric:
    return cloudwatch.Metric(
        namespace="AWS/SQS",
        metric_name=metric,
        dimensions_map={"QueueName": Token.as_string(name)},
        statistic="Maximum",
        period=FIVE_MINUTES,
    )
