// Calls of /api. A refusal becomes an error whose message says what is wrong and what to do.

export class Refusal extends Error {
  constructor(error) {
    super(error.message || "the coordinator refused this");
    this.code = error.code;
    this.reason = error.reason;
    this.advice = error.advice;
  }
}

/// Reads; parameters that are empty are left out.
export async function get(path, parameters = {}) {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(parameters)) {
    if (value !== null && value !== undefined && value !== "") query.append(key, value);
  }
  const text = query.toString();
  return answer(await send(text ? `${path}?${text}` : path, {}));
}

/// Changes something.
export async function post(path, body = {}) {
  const request = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  return answer(await send(path, request));
}

async function send(path, request) {
  try {
    return await fetch(path, { ...request, cache: "no-store", signal: AbortSignal.timeout(30000) });
  } catch {
    throw new Refusal({ code: "UNAVAILABLE", message: "the coordinator does not answer", advice: "check that it runs" });
  }
}

async function answer(response) {
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refusal(body.error ?? { message: `${response.status} ${response.statusText}` });
  return body;
}

/// Part of a path: names may hold anything.
export function part(text) {
  return encodeURIComponent(text);
}
