import type { FieldProblem, Problem, ProblemCode } from './generated/types.gen.js';

/** What each method of the client returns. */
export interface Result<Data> {
  data?: Data | undefined;
  error?: unknown;
  response?: Response | undefined;
}

/** The API refused the request, or no response was received. */
export class KatavenError extends Error {
  override readonly name = 'KatavenError';
  /** Program against this. Codes of later versions are strings; null if the response does not come from the API. */
  readonly code: ProblemCode | (string & {}) | null;
  /** The HTTP status; null if no response was received. */
  readonly status: number | null;
  /** Identifies the request in the logs of the API. */
  readonly requestId: string | null;
  /** The invalid fields of a 400. */
  readonly errors: readonly FieldProblem[];
  /** Seconds to wait before retrying a 429 or 503. */
  readonly retryAfter: number | null;

  constructor(error: unknown, response?: Response) {
    const problem = isProblem(error) ? error : undefined;
    const status = response?.status ?? null;
    const detail = problem?.detail ?? (status === null ? 'No response was received.' : `The response has status ${status}.`);
    super(detail, problem === undefined ? { cause: error } : undefined);
    this.code = problem?.code ?? null;
    this.status = status;
    this.requestId = response?.headers.get('X-Request-ID') ?? null;
    this.errors = problem?.errors ?? [];
    const seconds = Number(response?.headers.get('Retry-After') ?? NaN);
    this.retryAfter = Number.isFinite(seconds) ? seconds : null;
  }
}

/** The data of a result. Throws KatavenError if the request failed. */
export async function unwrap<Data>(pending: Promise<Result<Data>>): Promise<Data> {
  let result: Result<Data>;
  try {
    result = await pending;
  } catch (error) {
    throw new KatavenError(error);
  }
  if (!result.response?.ok) {
    throw new KatavenError(result.error, result.response);
  }
  return result.data as Data;
}

function isProblem(error: unknown): error is Problem {
  return typeof error === 'object' && error !== null && 'code' in error && 'detail' in error;
}
