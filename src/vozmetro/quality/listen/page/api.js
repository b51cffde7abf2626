// Requests to the server that served this page, and to no other.

export class Refused extends Error {
  constructor(code, wait = 0) {
    super(code);
    this.code = code;
    this.wait = wait;
  }
}

async function ask(path, options) {
  let answer;
  try {
    answer = await fetch(path, { credentials: "same-origin", cache: "no-store", ...options });
  } catch {
    throw new Refused("offline");
  }
  if (answer.ok) return answer;
  let told = {};
  try {
    told = await answer.json();
  } catch {
    // What a proxy answered in our place.
  }
  throw new Refused(told.error || "offline", told.wait || 0);
}

export async function get(path) {
  return (await ask(path)).json();
}

export async function post(path, value) {
  const headers = { "Content-Type": "application/json" };
  return (await ask(path, { method: "POST", headers, body: JSON.stringify(value) })).json();
}

export async function sound(path) {
  return (await ask(path)).blob();
}
