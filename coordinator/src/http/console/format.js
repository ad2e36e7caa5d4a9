// Numbers, sizes and times as people read them; the same forms as the command line's.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// 64-bit numbers come as text. What is beyond 2^53 loses its last digits, which nobody reads.
export function number(text) {
  return Number(text ?? 0);
}

export function bytes(value) {
  let amount = number(value);
  if (amount < 1024) return `${amount} B`;
  let unit = 0;
  while (amount >= 1023.95 && unit + 1 < UNITS.length) {
    amount /= 1024;
    unit += 1;
  }
  return `${amount.toFixed(1)} ${UNITS[unit]}`;
}

export function rate(value) {
  return `${bytes(value)}/s`;
}

export function count(value) {
  return number(value).toLocaleString("en-US");
}

export function countOf(value, noun, plural = `${noun}s`) {
  return `${count(value)} ${number(value) === 1 ? noun : plural}`;
}

export function percent(part, whole) {
  if (!whole) return "0 %";
  const share = (part / whole) * 100;
  if (share > 0 && share < 0.1) return "< 0.1 %";
  // Only what is whole is called whole.
  const shown = share >= 100 ? 100 : Math.min(share, 99.9);
  return `${shown >= 10 || Number.isInteger(shown) ? Math.floor(shown) : shown.toFixed(1)} %`;
}

/// Seconds of a duration such as "3.5s".
export function seconds(text) {
  return text ? Number.parseFloat(text) : null;
}

export function duration(value) {
  const total = Math.round(value);
  if (value < 59.5) return `${value < 9.95 ? value.toFixed(1) : total} s`;
  if (total < 3600) return `${Math.floor(total / 60)} min ${pad(total % 60)} s`;
  if (total < 86400) return `${Math.floor(total / 3600)} h ${pad(Math.floor((total % 3600) / 60))} min`;
  return `${Math.floor(total / 86400)} d ${pad(Math.floor((total % 86400) / 3600))} h`;
}

function pad(value) {
  return String(value).padStart(2, "0");
}

export function ago(time, now = Date.now()) {
  if (!time) return "never";
  const passed = (now - Date.parse(time)) / 1000;
  if (passed < 1.5) return "now";
  if (passed < 59.5) return `${Math.round(passed)} s ago`;
  if (passed < 3570) return `${Math.round(passed / 60)} min ago`;
  if (passed < 86400) return `${Math.floor(passed / 3600)} h ago`;
  return `${Math.floor(passed / 86400)} d ago`;
}

/// A clock time; with the day where it is not today.
export function clock(time) {
  const at = new Date(time);
  const today = new Date();
  const isToday = at.toDateString() === today.toDateString();
  const hours = `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
  return isToday ? hours : `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())} ${hours}`;
}

/// The words of an enum's value without its prefix: JOB_STATE_PARTIALLY_COMPLETED is "partially completed".
export function words(value, prefix) {
  return (value ?? "").replace(prefix, "").toLowerCase().replaceAll("_", " ");
}

/// A name that may hold anything: control and direction characters are made visible, so that no name can turn the text
/// around it or pretend to be another one.
export function name(text) {
  return (text ?? "").replace(/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g, (character) => {
    const code = character.codePointAt(0).toString(16).padStart(4, "0");
    return `\\u{${code}}`;
  });
}
