/**
 * What the original container manager does to the tables when a session begins and ends, written down again from its
 * description: two calls each, none of them conditional, no count that stops at zero. The tests run it beside ours.
 */

import { DeleteItemCommand, PutItemCommand, UpdateItemCommand, type DynamoDBClient } from "@aws-sdk/client-dynamodb";

import type { Tables } from "../container-manager.service.js";

/** Each half of an assignment and of a release can be had alone: that is what a crash in between leaves. */
export class OriginalContainerManager {
  readonly #dynamodb: DynamoDBClient;
  readonly #tables: Tables;
  readonly #now: () => number;

  constructor(dynamodb: DynamoDBClient, tables: Tables, now: () => number) {
    this.#dynamodb = dynamodb;
    this.#tables = tables;
    this.#now = now;
  }

  async assignSessionToContainer(sessionId: string, containerId: string): Promise<void> {
    await this.putRow(sessionId, containerId);
    await this.countUp(containerId);
  }

  async releaseSession(sessionId: string, containerId: string): Promise<void> {
    await this.countDown(containerId);
    await this.deleteRow(sessionId);
  }

  async putRow(sessionId: string, containerId: string): Promise<void> {
    const now = this.#now();
    const row = {
      sessionId: { S: sessionId },
      containerId: { S: containerId },
      createdAt: { S: new Date(now).toISOString() },
      lastActivity: { N: String(now) },
    };
    await this.#dynamodb.send(new PutItemCommand({ TableName: this.#tables.sessions, Item: row }));
  }

  async countUp(containerId: string): Promise<void> {
    await this.#dynamodb.send(
      new UpdateItemCommand({
        TableName: this.#tables.containers,
        Key: { containerId: { S: containerId } },
        UpdateExpression: "ADD sessionCount :one SET lastActivity = :now",
        ExpressionAttributeValues: { ":one": { N: "1" }, ":now": { N: String(this.#now()) } },
      }),
    );
  }

  async countDown(containerId: string): Promise<void> {
    await this.#dynamodb.send(
      new UpdateItemCommand({
        TableName: this.#tables.containers,
        Key: { containerId: { S: containerId } },
        UpdateExpression: "ADD sessionCount :minusOne",
        ExpressionAttributeValues: { ":minusOne": { N: "-1" } },
      }),
    );
  }

  async deleteRow(sessionId: string): Promise<void> {
    await this.#dynamodb.send(
      new DeleteItemCommand({ TableName: this.#tables.sessions, Key: { sessionId: { S: sessionId } } }),
    );
  }
}
