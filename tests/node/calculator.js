// The calculator's protocol in the lab's own style: Node.js, one program per service, micro-services called
// synchronously. Not of provision/'s making on purpose: what is proven of one must hold for the other.
//
//   node calculator.js sum|sub|mul|div|calculator [--port N] [--bind ADDRESS]
//
// SUM_URL, SUB_URL, MUL_URL, DIV_URL and BACKEND_TIMEOUT as for service.py. SYNC_REQUEST=1 calls the micro-services
// through the npm package sync-request, as the lab's programs do, instead of through a worker thread.
'use strict';

const http = require('http');
const { Worker, MessageChannel, isMainThread, receiveMessageOnPort, workerData } = require('worker_threads');

const PORTS = { calculator: 50000, sum: 50001, sub: 50002, mul: 50003, div: 50004 };
const NAMES = { '+': 'sum', '-': 'sub', '*': 'mul', '/': 'div' };
const SIGNS = { sum: '+', sub: '-', mul: '*', div: '/' };
const DIGITS = 40;
const SHOWN = 30;
const BODY = 4096;
const DEPTH = 50;
const SCALE = 10n ** BigInt(DIGITS);
const LIMIT = 1000 * Number(process.env.BACKEND_TIMEOUT || '5');

class Refused extends Error {
  constructor(status, reason) {
    super(reason);
    this.status = status;
  }
}

// Somebody's text, fit for one line.
function quoted(text) {
  return JSON.stringify(text.slice(0, 60)).replace(/[^ -~]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

// Numbers are integers that count units of 10^-DIGITS.
function number(text) {
  const found = /^([+-]?)(?:([0-9]+)\.?([0-9]*)|\.([0-9]+))$/.exec(text);
  if (!found) throw new Refused(400, `not a decimal number: ${quoted(text)}`);
  const whole = found[2] || '0';
  const decimals = found[3] || found[4] || '';
  if (whole.length > DIGITS || decimals.length > DIGITS) throw new Refused(400, `more than ${DIGITS} digits`);
  const units = BigInt(whole + decimals.padEnd(DIGITS, '0'));
  return found[1] === '-' ? -units : units;
}

// The quotient rounded half away from zero.
function divided(a, b) {
  const [above, below] = [a < 0n ? -a : a, b < 0n ? -b : b];
  const quotient = (2n * above + below) / (2n * below);
  return a < 0n === b < 0n ? quotient : -quotient;
}

function plain(units, decimals = DIGITS) {
  const step = 10n ** BigInt(DIGITS - decimals);
  const rounded = divided(units, step);
  const digits = (rounded < 0n ? -rounded : rounded).toString().padStart(decimals + 1, '0');
  const whole = digits.slice(0, -decimals);
  const rest = digits.slice(-decimals).replace(/0+$/, '');
  return (rounded < 0n ? '-' : '') + whole + (rest ? `.${rest}` : '');
}

function operate(name, body) {
  const words = body.trim().split(/\s+/);
  if (words.length !== 2) throw new Refused(400, 'expected: A B');
  const [a, b] = words.map(number);
  if (name === 'div' && b === 0n) throw new Refused(400, 'division by zero');
  const units = { sum: () => a + b, sub: () => a - b, mul: () => divided(a * b, SCALE), div: () => divided(a * SCALE, b) }[name]();
  const result = plain(units);
  if (result.replace('-', '').split('.')[0].length > DIGITS) throw new Refused(400, `result of more than ${DIGITS} digits`);
  return { lines: [`A = ${plain(a)}`, `B = ${plain(b)}`, `A ${SIGNS[name]} B = ${result}`], text: result };
}

// ---------- Synchronous requests

// In the worker: one request, its outcome posted back, the waiting thread woken.
function serveRequests({ port, flag }) {
  port.on('message', ({ url, body }) => {
    let over = false;
    const done = (outcome) => {
      if (over) return;
      over = true;
      clearTimeout(timer);
      port.postMessage(outcome);
      Atomics.store(flag, 0, 1);
      Atomics.notify(flag, 0);
    };
    const timer = setTimeout(() => { done({ error: `nothing within ${LIMIT / 1000} s` }); request.destroy(); }, LIMIT);
    const headers = { 'Content-Type': 'text/plain', 'Content-Length': Buffer.byteLength(body) };
    const request = http.request(url, { method: 'POST', headers }, (response) => {
      let text = '';
      response.setEncoding('latin1');
      response.on('data', (part) => {
        text += part;
        if (text.length > BODY) { done({ status: 0, text }); request.destroy(); }
      });
      response.on('end', () => done({ status: response.statusCode, text }));
      response.on('error', (error) => done({ error: error.message }));
    });
    request.on('error', (error) => done({ error: error.code === 'ECONNREFUSED' ? 'connection refused' : error.message }));
    request.end(body);
  });
}

function overWorker() {
  const flag = new Int32Array(new SharedArrayBuffer(4));
  const { port1, port2 } = new MessageChannel();
  new Worker(__filename, { workerData: { port: port2, flag }, transferList: [port2] }).unref();
  port1.unref();
  return (url, body) => {
    Atomics.store(flag, 0, 0);
    port1.postMessage({ url, body });
    Atomics.wait(flag, 0, 0);
    return receiveMessageOnPort(port1).message;
  };
}

function overSyncRequest() {
  const request = require('sync-request');
  return (url, body) => {
    try {
      const response = request('POST', url, { body, timeout: LIMIT, headers: { 'Content-Type': 'text/plain' } });
      return { status: response.statusCode, text: response.body.toString('latin1') };
    } catch (error) {
      return { error: error.message.split('\n')[0] };
    }
  };
}

// ---------- The calculator

function calculator() {
  const post = process.env.SYNC_REQUEST ? overSyncRequest() : overWorker();

  const call = (sign, a, b) => {
    const name = NAMES[sign];
    const url = process.env[`${name.toUpperCase()}_URL`] || `http://127.0.0.1:${PORTS[name]}`;
    const { error, status, text } = post(url, `${a} ${b}`);
    if (error) throw new Refused(502, `${name} at ${url} does not answer: ${error}`);
    if (status === 400) throw new Refused(400, `${name} at ${url} refuses ${a} ${b}: ${quoted(text.trim())}`);
    if (status !== 200) throw new Refused(502, `${name} at ${url} answers HTTP ${status}`);
    try {
      return plain(number(text.trim()));
    } catch (wrong) {
      throw new Refused(502, `${name} at ${url} answers nonsense: ${wrong.message}`);
    }
  };

  // Evaluates as it reads, but only once everything has been read: the first pass calls nobody.
  const evaluate = (text, operation) => {
    const tokens = text.match(/[0-9]+\.?[0-9]*|\.[0-9]+|\S/g) || [];
    let at = 0;
    const unexpected = () => new Refused(400, `unexpected ${quoted(tokens[at] || 'end')}`);
    const isNumber = (token) => /^[0-9.]*[0-9][0-9.]*$/.test(token || '');
    const operand = (depth) => {
      if (depth > DEPTH) throw new Refused(400, `nested deeper than ${DEPTH}`);
      let sign = '';
      if (tokens[at] === '+' || tokens[at] === '-') sign = tokens[at++];
      if (isNumber(tokens[at])) return plain(number(sign + tokens[at++]));
      if (sign === '-') return operation('-', '0', operand(depth + 1));
      if (sign === '+') return operand(depth + 1);
      if (tokens[at] !== '(') throw unexpected();
      at++;
      const inner = sum(depth + 1);
      if (tokens[at++] !== ')') throw new Refused(400, "')' is missing");
      return inner;
    };
    const chain = (signs, next, depth) => {
      let left = next(depth);
      while (signs.includes(tokens[at])) {
        const sign = tokens[at++];
        left = operation(sign, left, next(depth));
      }
      return left;
    };
    const product = (depth) => chain(['*', '/'], operand, depth);
    const sum = (depth) => chain(['+', '-'], product, depth);
    const result = sum(0);
    if (at < tokens.length) throw unexpected();
    return result;
  };

  return (body) => {
    evaluate(body, () => '0');
    const result = plain(number(evaluate(body, call)), SHOWN);
    return { lines: [`${body.replace(/\s/g, '')} = ${result}`], text: `result = ${result}` };
  };
}

// ---------- HTTP

function serve(name, service, port, bind) {
  // The connection stays, so that the rest of a body is read away: closing at once would reset it.
  const refuse = (response, status, reason) => {
    response.writeHead(status, { 'Content-Type': 'text/plain', ...(status === 405 && { Allow: 'POST' }) });
    response.end(`${reason}\n`);
  };
  const server = http.createServer((request, response) => {
    const length = request.headers['content-length'];
    if (request.method !== 'POST') return refuse(response, 405, `${request.method} is not served`);
    if (length === undefined || request.headers['transfer-encoding']) return refuse(response, 411, 'Content-Length expected');
    if (Number(length) > BODY) return refuse(response, 413, `a body of more than ${BODY} bytes`);
    const parts = [];
    request.on('data', (part) => parts.push(part));
    request.on('end', () => {
      let outcome;
      try {
        const body = new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(parts));
        outcome = { status: 200, ...service(body) };
      } catch (error) {
        if (error.code === 'ERR_ENCODING_INVALID_ENCODED_DATA') error = new Refused(400, 'not UTF-8');
        if (!(error instanceof Refused)) throw error;
        outcome = { status: error.status, lines: [`Refused : ${error.message}`], text: error.message };
      }
      process.stdout.write(['New request :', ...outcome.lines, ''].join('\n'));
      response.writeHead(outcome.status, { 'Content-Type': 'text/plain' });
      response.end(`${outcome.text}\n`);
    });
  });
  server.on('clientError', (error, socket) => {
    if (socket.writable) socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 9\r\n\r\nnot HTTP\n');
  });
  server.on('error', (error) => {
    console.error(`${name} does not listen on ${bind} port ${port}: ${error.message}`);
    process.exit(1);
  });
  server.listen(port, bind, () => console.log(`Listening on port : ${server.address().port}`));
  for (const ending of ['SIGTERM', 'SIGINT']) process.on(ending, () => process.exit(0));
}

function main([name, ...words]) {
  if (!(name in PORTS)) {
    console.error(`one of ${Object.keys(PORTS).join(', ')} expected`);
    process.exit(2);
  }
  const option = (flag, fallback) => (words.includes(flag) ? words[words.indexOf(flag) + 1] : fallback);
  const service = name === 'calculator' ? calculator() : (body) => operate(name, body);
  serve(name, service, Number(option('--port', PORTS[name])), option('--bind', '0.0.0.0'));
}

if (isMainThread) main(process.argv.slice(2));
else serveRequests(workerData);
