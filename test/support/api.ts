/** Cloud Controller's API as developers use it, over plain HTTP. */
import { z } from "zod";

const ResourceSchema = z.looseObject({ guid: z.string() });
const ListSchema = z.looseObject({ resources: z.array(ResourceSchema) });

export interface ApiAnswer {
  readonly status: number;
  readonly body: unknown;
}

export class Api {
  readonly url: string;
  readonly #token: string;

  /** `token` as in the Authorization header. */
  constructor(url: string, token: string) {
    this.url = url;
    this.#token = token;
  }

  async send(method: string, path: string, body?: unknown): Promise<ApiAnswer> {
    const response = await fetch(new URL(path, this.url), {
      method,
      headers: { authorization: this.#token, "content-type": "application/json" },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    return { status: response.status, body: text === "" ? undefined : JSON.parse(text) };
  }

  /** Throws when the answer is no success. */
  async call(method: string, path: string, body?: unknown): Promise<unknown> {
    const answer = await this.send(method, path, body);
    if (answer.status < 300) return answer.body;
    throw new Error(`${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
  }

  /** The guid of what was made. */
  async create(path: string, body: unknown): Promise<string> {
    return ResourceSchema.parse(await this.call("POST", path, body)).guid;
  }

  /** The guids of the first page of a list. */
  async list(path: string): Promise<readonly string[]> {
    return ListSchema.parse(await this.call("GET", path)).resources.map(({ guid }) => guid);
  }

  /** The guid of the first resource of a list. */
  async find(path: string): Promise<string> {
    const [first] = await this.list(path);
    if (first === undefined) throw new Error(`${path} lists nothing`);
    return first;
  }
}
