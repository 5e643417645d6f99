/** What Envoy says of a request that has ended: the fields of its record, in one line of text, and how they are read. */

/** Can't occur in a header: Envoy refuses control characters there, but for the tab. */
const SEPARATOR = "\u001f";

/** How Envoy writes that there is no value. A header that says just that is no value to Gorouter's log, either. */
const NOTHING = "-";

/** What the metrics need, by Envoy's command operators. */
const FOR_METRICS = {
  status: "%RESPONSE_CODE%",
  /** From the first byte of the request to the last of the answer; missing where the answer was not sent to its end. */
  responseUs: "%COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)%",
  durationMs: "%DURATION%",
  /** From the first byte sent to the app to the last of its answer. */
  appUs: "%COMMON_DURATION(US_TX_BEG:US_RX_END:us)%",
  flags: "%RESPONSE_FLAGS%",
  failureReason: "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
  routerError: "%RESP(x-cf-routererror)%",
  attempts: "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
  upgrade: "%REQ(upgrade)%",
  backend: "%UPSTREAM_HOST%",
  appId: "%UPSTREAM_METADATA(cf:app_id)%",
  cluster: "%UPSTREAM_CLUSTER_RAW%",
};

/** What the access log needs besides. */
const FOR_LINES = {
  host: "%REQ(:authority)%",
  method: "%REQ(:method)%",
  uri: "%REQ(x-envoy-original-path?:path)%",
  protocol: "%PROTOCOL%",
  requestBytes: "%BYTES_RECEIVED%",
  responseBytes: "%BYTES_SENT%",
  referer: "%REQ(referer)%",
  userAgent: "%REQ(user-agent)%",
  client: "%DOWNSTREAM_REMOTE_ADDRESS%",
  forwardedFor: "%REQ(x-forwarded-for)%",
  forwardedProto: "%REQ(x-forwarded-proto)%",
  requestId: "%REQ(x-vcap-request-id)%",
  appIndex: "%UPSTREAM_METADATA(cf:instance_index)%",
  instanceId: "%UPSTREAM_METADATA(cf:instance_id)%",
};

/** Fields of Gorouter's line that it has only when it is asked for them. */
const FOR_EXTRA_FIELDS = {
  localAddress: "%UPSTREAM_LOCAL_ADDRESS%",
  untilDialUs: "%COMMON_DURATION(DS_RX_BEG:US_CX_BEG:us)%",
  dialUs: "%COMMON_DURATION(US_CX_BEG:US_CX_END:us)%",
  tlsUs: "%COMMON_DURATION(US_CX_END:US_HS_END:us)%",
  untilSentUs: "%COMMON_DURATION(DS_RX_BEG:US_TX_BEG:us)%",
};

const OPERATORS = { ...FOR_METRICS, ...FOR_LINES, ...FOR_EXTRA_FIELDS };
type Field = keyof typeof OPERATORS;
const NUMBERS = [
  "status",
  "responseUs",
  "durationMs",
  "appUs",
  "attempts",
  "requestBytes",
  "responseBytes",
  "untilDialUs",
  "dialUs",
  "tlsUs",
  "untilSentUs",
] as const satisfies readonly Field[];
type NumberField = (typeof NUMBERS)[number];

/**
 * A request, and the answer that the client got. Texts are bytes, one in each character, and "" where Envoy has none;
 * numbers are undefined there, and where the record was not asked for them.
 */
export type RequestRecord = Readonly<Record<Exclude<Field, NumberField>, string>> &
  Readonly<Record<NumberField, number | undefined>> & {
    /** Unix time in nanoseconds. */
    readonly startNs: bigint;
    /** Values of the headers that were asked for, in that order. */
    readonly headers: readonly string[];
  };

export interface RecordContents {
  /** Whether lines are to be made of the records; metrics alone need less. */
  readonly lines: boolean;
  /** Whether lines have fields beyond those that all have. */
  readonly extraFields: boolean;
  /** Names of request headers. */
  readonly headers: readonly string[];
}

const EMPTY = Object.fromEntries(
  Object.keys(OPERATORS).map((field) => [field, NUMBERS.some((name) => name === field) ? undefined : ""]),
) as unknown as Omit<RequestRecord, "headers" | "startNs">;

export interface RecordFormat {
  /** What Envoy is to write for each request. */
  readonly format: string;
  /** undefined for a text that is none of this format. */
  readonly parse: (startNs: bigint, text: string) => RequestRecord | undefined;
}

export function recordFormat({ lines, extraFields, headers }: RecordContents): RecordFormat {
  const fields = [
    ...Object.keys(FOR_METRICS),
    ...(lines ? Object.keys(FOR_LINES) : []),
    ...(lines && extraFields ? Object.keys(FOR_EXTRA_FIELDS) : []),
  ] as readonly Field[];
  const isNumber = fields.map((field) => NUMBERS.some((name) => name === field));
  const logged = lines ? headers : [];
  return {
    format: [...fields.map((field) => OPERATORS[field]), ...logged.map((name) => `%REQ(${name})%`)].join(SEPARATOR),
    parse(startNs, text) {
      const values = text.split(SEPARATOR);
      if (values.length !== fields.length + logged.length) return undefined;
      const record: Record<string, unknown> = { ...EMPTY, startNs, headers: values.slice(fields.length).map(textOf) };
      for (const [place, field] of fields.entries()) {
        const value = values[place] ?? NOTHING;
        record[field] = isNumber[place] ? numberOf(value) : textOf(value);
      }
      return record as unknown as RequestRecord;
    },
  };
}

function textOf(value: string): string {
  return value === NOTHING ? "" : value;
}

function numberOf(value: string): number | undefined {
  const number = value === "" ? Number.NaN : Number(value);
  return Number.isFinite(number) && number >= 0 ? number : undefined;
}
