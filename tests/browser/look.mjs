// node look.mjs FOLDER PAGE.html...: opens each page in headless Chromium, on a desktop and on a phone, light and dark,
// in English and in French; says what axe-core finds, how long loading takes, and what the page tried to load.
// Pictures and a PDF of each page go to FOLDER. Ends with 1 if there is anything serious.
import { mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import puppeteer from "puppeteer-core";

const SERIOUS = new Set(["serious", "critical"]);
const LOADS_WITHIN = 1000; // ms, to the end of the load event
const SIZE = 2_000_000; // bytes
const VIEWS = [
  { name: "desktop", width: 1280, height: 900, scheme: "light", lang: "en" },
  { name: "desktop-dark-fr", width: 1280, height: 900, scheme: "dark", lang: "fr" },
  { name: "phone", width: 390, height: 844, scheme: "light", lang: "fr", phone: true },
];

const [folder, ...pages] = process.argv.slice(2);
if (!pages.length) {
  console.error("usage: node look.mjs FOLDER PAGE.html...");
  process.exit(2);
}
const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const profile = await mkdtemp(join(tmpdir(), "labproof-chromium-"));
const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
  userDataDir: profile,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"],
});
let bad = 0;
const fault = (text) => { bad += 1; console.log(`  ✗ ${text}`); };

async function look(file, view) {
  const page = await browser.newPage();
  const requests = [];
  const errors = [];
  page.on("request", (request) => requests.push(request.url()));
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("dialog", (dialog) => {
    errors.push(`a dialog opened: ${dialog.message()}`);
    dialog.dismiss();
  });
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: view.scheme }]);
  await page.setViewport({ width: view.width, height: view.height, isMobile: !!view.phone, hasTouch: !!view.phone });
  await page.evaluateOnNewDocument((lang) => { try { localStorage.setItem("labproof-lang", lang); } catch {} }, view.lang);
  const url = pathToFileURL(resolve(file)).href;
  await page.goto(url, { waitUntil: "load" });
  const took = await page.evaluate(() => {
    const entry = performance.getEntriesByType("navigation")[0];
    return Math.round(entry.loadEventEnd || performance.now());
  });
  const wide = await page.evaluate((width) => document.documentElement.scrollWidth - width, view.width);
  const picture = join(folder, `${name(file)}-${view.name}`);
  await page.screenshot({ path: `${picture}.png` });
  const unmet = await page.$("#lp-objectives .lp-check:not([data-v=pass]) > summary");
  if (unmet) {
    await unmet.evaluate((each) => { each.click(); each.scrollIntoView({ block: "center" }); });
    await page.screenshot({ path: `${picture}-evidence.png` });
  }
  // axe is put in by the browser itself: the page's own policy lets no foreign script in
  await page.evaluate(axe);
  await page.evaluate(() => document.querySelectorAll("details").forEach((each) => { each.open = true; }));
  const found = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations", "passes"] }));
  console.log(`${file} (${view.name}): loaded in ${took} ms; axe: ${found.violations.length || "no"} violations, ` +
    `${found.passes.length} rules passed`);
  if (!found.passes.length) fault("axe looked at nothing");
  for (const each of found.violations) {
    const line = `axe ${each.impact}: ${each.id}: ${each.help} (${each.nodes.length}x, ${each.nodes[0].html.slice(0, 160)})`;
    SERIOUS.has(each.impact) ? fault(line) : console.log(`  · ${line}`);
  }
  if (took > LOADS_WITHIN) fault(`took ${took} ms to load; ${LOADS_WITHIN} is the limit`);
  if (wide > 0) fault(`is ${wide} px wider than its window`);
  errors.forEach(fault);
  requests.filter((each) => each !== url && !each.startsWith("data:")).forEach((each) => fault(`loads ${each}`));
  await page.close();
}

async function paper(file) {
  const page = await browser.newPage();
  await page.goto(pathToFileURL(resolve(file)).href, { waitUntil: "load" });
  await page.pdf({ path: join(folder, `${name(file)}.pdf`), format: "A4", preferCSSPageSize: true, timeout: 120_000 });
  await page.close();
}

async function keys(file) {
  const page = await browser.newPage();
  await page.goto(pathToFileURL(resolve(file)).href, { waitUntil: "load" });
  const focused = () => page.evaluate(() => {
    const here = document.activeElement;
    return here.closest(".lp-check") ? here.closest(".lp-check").dataset.v : here.closest(".lp-map") ? here.href : "";
  });
  if (await page.$(".lp-check")) {
    await page.keyboard.press("j");
    if (!(await focused())) fault("j does not lead to a check");
    await page.keyboard.press("Enter");
    if (!(await page.$(".lp-check[open] summary:focus"))) fault("Enter does not open the check's evidence");
    if (await page.$(".lp-check:not([data-v=pass])")) {
      await page.keyboard.press("n");
      if ((await focused()) === "pass") fault("n does not lead to what is not proven");
    }
    await page.keyboard.press("/");
    if (!(await page.$("[data-find]:focus"))) fault("/ does not lead to the search");
    await page.keyboard.type("no claim says this");
    if (await page.evaluate(() => [...document.querySelectorAll(".lp-claim")].some((each) => !each.hidden)))
      fault("the search hides nothing");
  }
  if (await page.$(".lp-map")) {
    await page.evaluate(() => document.querySelector(".lp-map a[tabindex='0']").focus());
    const before = await focused();
    await page.keyboard.press("ArrowRight");
    await page.keyboard.press("ArrowDown");
    if ((await focused()) === before) fault("the arrows do not move in the heat map");
    const stops = await page.evaluate(() => document.querySelectorAll(".lp-map td a[tabindex='0']").length);
    if (stops !== 1) fault(`the heat map's cells are ${stops} stops for the Tab key; one is enough`);
  }
  await page.close();
}

const name = (file) => `${basename(dirname(resolve(file)))}-${basename(file, ".html")}`;

try {
  for (const file of pages) {
    const size = (await stat(file)).size;
    console.log(`${file}: ${(size / 1024).toFixed(0)} KB`);
    if (size > SIZE) fault(`has ${size} bytes; ${SIZE} is the limit`);
    for (const view of VIEWS) await look(file, view);
    await keys(file);
    await paper(file);
  }
} finally {
  await browser.close();
  await rm(profile, { recursive: true, force: true });
}
process.exit(bad ? 1 : 0);
