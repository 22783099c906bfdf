// The console in a real browser against a real product. See lib/console.mjs for how one is found or started.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmodSync, copyFileSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { AxeBuilder } from "@axe-core/playwright";
import { freshPage } from "../lib/browser.mjs";
import { openConsole, PASSWORD, signIn } from "../lib/console.mjs";

const PAGES = ["/network", "/network?view=table", "/nodes", "/containers", "/components", "/components?tab=enforcers", "/groups", "/groups?name=nodes", "/groups?name=containers&tab=files", "/rules", "/events"];
const CHANGES = { "content-type": "application/json", "x-nv-console": "1" };

let product;
let session;

before(async () => {
  product = await openConsole();
});
after(async () => {
  await product?.close();
});

/** A page that shares the session of the first login. */
async function signedIn(options = {}) {
  return freshPage(product.browser, { storageState: session, ...options });
}

describe("console", { concurrency: 1 }, () => {
  test("the one-time password must be changed at the first login, and then only the new one works", async () => {
    const { context, page, complaints } = await freshPage(product.browser);
    await signIn(page, product.url, [product.oneTimePassword(), PASSWORD]);
    assert.match(await page.title(), /NeuVector/);
    session = await context.storageState();
    const cookie = session.cookies.find((entry) => entry.name === "nv_session");
    assert.ok(cookie?.httpOnly && cookie.secure && cookie.sameSite === "Strict", JSON.stringify({ ...cookie, value: "" }));
    assert.deepEqual(session.origins.flatMap((origin) => origin.localStorage.filter((entry) => /token|session/i.test(entry.name))), []);
    assert.equal(await page.evaluate(() => document.cookie.includes("nv_session")), false);
    assert.deepEqual(complaints, []);
    await context.close();
    const again = await freshPage(product.browser);
    await again.page.goto(product.url);
    await again.page.fill("input#Email1", "admin");
    await again.page.fill("input#password1", "admin");
    await again.page.click("button[type=submit]");
    await again.page.locator(".login-form .problem").waitFor();
    assert.equal(await again.page.locator("nav.sidebar").count(), 0);
    await again.context.close();
  });

  test("what a page shows is in its address, and a reload shows the same", async () => {
    const { context, page } = await signedIn();
    await page.goto(`${product.url}/groups`);
    await page.locator('[row-id="nodes"]').click();
    await page.getByRole("tab", { name: "Process profile" }).click();
    await page.getByRole("searchbox").fill("node");
    await page.waitForURL(/q=node/);
    const address = page.url();
    assert.match(address, /name=nodes/);
    assert.match(address, /tab=profile/);
    await page.reload();
    await page.getByRole("heading", { name: "nodes", exact: true }).waitFor();
    assert.equal(page.url(), address);
    assert.equal(await page.getByRole("searchbox").inputValue(), "node");
    assert.equal(await page.getByRole("tab", { name: "Process profile" }).getAttribute("aria-selected"), "true");
    await context.close();
  });

  test("a deep link leads through the login to where it points", async () => {
    const { context, page } = await freshPage(product.browser);
    await signIn(page, product.url, [PASSWORD], "/components?tab=enforcers");
    await page.locator("app-enforcers-grid").waitFor();
    assert.match(page.url(), /\/components\?tab=enforcers$/);
    await context.close();
  });

  test("the menu leads to components that are connected, by the names that other suites use", async () => {
    const { context, page } = await signedIn();
    await page.goto(product.url);
    const menu = page.locator("nav.sidebar > ul");
    await menu.getByText("Assets").click();
    await menu.getByText("System Components").click();
    const status = page.locator("div[role=row] > div[col-id=connection_state] > app-controllers-grid-status-cell > span");
    await status.first().waitFor();
    assert.equal((await status.first().textContent()).trim(), "Connected");
    await page.locator("div[role=tablist]").getByText("Enforcers").click();
    await page.locator("app-enforcers-grid-status-cell").getByText("Connected").first().waitFor();
    await context.close();
  });

  test("an event is seen within two seconds of the API having it, and its link opens it in a fresh session", async () => {
    const { context, page } = await signedIn();
    // A machine in use does much that was never seen; only the deed is to be in sight.
    const name = `deed-${process.pid}-${Date.now()}`;
    await page.goto(`${product.url}/events${process.env.NV_DEED_ELSEWHERE ? "" : `?q=${name}`}`);
    await page.getByRole("button", { name: /^Pause/ }).waitFor();
    const deed = await misbehave(page, name);
    const row = page.locator(`[row-id="${deed.id}"]`);
    await row.waitFor({ timeout: 2_000 });
    assert.ok(Date.now() - deed.knownAt <= 2_000, `seen after ${Date.now() - deed.knownAt} ms`);
    await row.click();
    await page.waitForURL((url) => url.pathname === `/events/${encodeURIComponent(deed.id)}`);
    await page.locator("aside.drawer .facts").first().waitFor();
    const link = page.url();
    const title = await page.locator("aside.drawer h2").textContent();
    await context.close();
    const fresh = await freshPage(product.browser);
    await signIn(fresh.page, product.url, [PASSWORD], new URL(link).pathname);
    await fresh.page.locator("aside.drawer .facts").first().waitFor();
    assert.equal(await fresh.page.locator("aside.drawer h2").textContent(), title);
    await fresh.context.close();
  });

  test("a change of mode asks first and then shows what the product says", async () => {
    const { context, page } = await signedIn();
    await page.goto(`${product.url}/groups?name=nodes`);
    const modes = page.getByRole("radiogroup", { name: "Network mode" });
    const now = await modes.getByRole("radio", { checked: true }).inputValue();
    const other = now === "Discover" ? "Monitor" : "Discover";
    await modes.locator("label", { hasText: other }).click();
    await page.getByRole("alertdialog").getByRole("button", { name: "Cancel" }).click();
    await page.getByRole("alertdialog").waitFor({ state: "detached" });
    assert.equal(await modes.getByRole("radio", { checked: true }).inputValue(), now, "cancelled: nothing changed");
    await modes.locator("label", { hasText: other }).click();
    await page.getByRole("alertdialog").getByRole("button", { name: `Change to ${other}` }).click();
    await page.getByRole("alertdialog").waitFor({ state: "detached" });
    await modes.getByRole("radio", { name: other, checked: true }).waitFor({ state: "attached" });
    const answer = await page.request.get(`${product.url}/v1/group/nodes`);
    assert.equal((await answer.json()).group.policy_mode, other);
    await context.close();
  });

  test("a node shows what runs on it beside its containers", async () => {
    const { context, page, complaints } = await signedIn();
    const answer = await page.request.get(`${product.url}/v1/host`);
    const [host] = (await answer.json()).hosts;
    await page.goto(`${product.url}/nodes?id=${host.id}`);
    await page.getByRole("tab", { name: "Processes" }).click();
    // The product itself is one of them.
    await page.locator("aside.drawer tbody tr", { hasText: "neuvector" }).first().waitFor();
    assert.match(page.url(), /tab=processes/);
    assert.deepEqual(complaints, []);
    await context.close();
  });

  test("a group's file rules are added, changed and deleted, and what the API refuses is said", async () => {
    const { context, page, complaints } = await signedIn();
    const group = `files-${Date.now()}`;
    const made = await page.request.post(`${product.url}/v1/group`, {
      headers: CHANGES,
      data: { config: { name: group, criteria: [{ key: "image", op: "=", value: "none/such" }] } },
    });
    assert.ok(made.ok(), await made.text());
    const filters = async () => (await (await page.request.get(`${product.url}/v1/file_monitor/${group}`)).json()).profile.filters;
    await page.goto(`${product.url}/groups?name=${group}&tab=files`);
    await page.getByText("No file rule of its own").waitFor();
    await page.getByLabel("Show the built-in watch list").check();
    const row = (path) => page.locator("aside.drawer tbody tr", { hasText: path });
    await row("/etc/passwd").first().waitFor();
    assert.equal(await page.locator("aside.drawer tbody button").count(), 0, "the built-in list is not to be changed");
    await page.getByLabel("Show the built-in watch list").uncheck();

    await page.getByRole("button", { name: "Add a file rule" }).click();
    const form = page.getByRole("dialog");
    await form.getByLabel("Path, with *").fill("srv/vault");
    await form.getByRole("button", { name: "Save the rule" }).click();
    await form.getByRole("alert").filter({ hasText: "must begin with /" }).waitFor();
    await form.getByLabel("Path, with *").fill("/srv/vault/*");
    await form.getByLabel("And everything below").check();
    await form.getByLabel("What happens").selectOption("block_access");
    await form.getByLabel("Programs that may").fill("/bin/cat\n/usr/bin/vault");
    const accessible = await new AxeBuilder({ page }).include("[role=dialog]").analyze();
    assert.deepEqual(accessible.violations.map((violation) => violation.id), []);
    await form.getByRole("button", { name: "Save the rule" }).click();
    await form.waitFor({ state: "detached" });
    await row("/srv/vault/*").getByText("Block access").waitFor();
    const [added, ...none] = await filters();
    assert.deepEqual(none, []);
    assert.deepEqual([added.filter, added.recursive, added.behavior, added.applications], ["/srv/vault/*", true, "block_access", ["/bin/cat", "/usr/bin/vault"]]);

    await page.getByRole("button", { name: "Change the rule for /srv/vault/*" }).click();
    await form.getByLabel("Path, with *").fill("/srv/keys/*");
    await form.getByLabel("What happens").selectOption("monitor_change");
    await form.getByRole("button", { name: "Save the rule" }).click();
    await form.waitFor({ state: "detached" });
    await row("/srv/keys/*").getByText("Report changes").waitFor();
    assert.deepEqual((await filters()).map((rule) => [rule.filter, rule.behavior, rule.applications]), [["/srv/keys/*", "monitor_change", []]]);

    await page.getByRole("button", { name: "Change the rule for /srv/keys/*" }).click();
    await form.getByLabel("Path, with *").fill("/srv/../etc");
    await form.getByRole("button", { name: "Save the rule" }).click();
    await form.getByRole("alert").filter({ hasText: "The rule was not changed:" }).waitFor();
    await form.getByRole("button", { name: "Cancel" }).click();

    await page.getByRole("button", { name: "Delete the rule for /srv/keys/*" }).click();
    await page.getByRole("alertdialog").getByRole("button", { name: "Delete" }).click();
    await page.getByText("No file rule of its own").waitFor();
    assert.deepEqual(await filters(), []);
    assert.deepEqual(complaints, []);
    await context.close();
  });

  test("every page works by keyboard: skip link, rows, and back to the row that was open", async () => {
    const { context, page } = await signedIn();
    await page.goto(`${product.url}/groups`);
    await page.locator(".grid-body .grid-row").first().waitFor();
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate(() => document.activeElement?.className), "skip");
    await page.locator('.grid-body .grid-row[tabindex="0"]').focus();
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("ArrowUp");
    const id = await page.evaluate(() => document.activeElement?.getAttribute("row-id"));
    assert.ok(id);
    await page.keyboard.press("Enter");
    await page.locator("aside.drawer h2").waitFor();
    assert.equal(await page.evaluate(() => document.activeElement?.tagName), "H2");
    await page.keyboard.press("Escape");
    await page.locator("aside.drawer").waitFor({ state: "detached" });
    assert.equal(await page.evaluate(() => document.activeElement?.getAttribute("row-id")), id);
    await context.close();
  });

  for (const scheme of ["light", "dark"]) {
    test(`no page has a serious accessibility fault in ${scheme}`, async () => {
      const { context, page, complaints } = await signedIn({ colorScheme: scheme });
      const faults = [];
      for (const path of PAGES) {
        await page.goto(product.url + path);
        await page.locator("h1").waitFor();
        await page.locator(".skeleton").first().waitFor({ state: "detached" });
        faults.push(...(await axe(page)).map((fault) => `${path}: ${fault}`));
      }
      assert.deepEqual(faults, []);
      assert.deepEqual(complaints, []);
      await context.close();
      const anonymous = await freshPage(product.browser, { colorScheme: scheme });
      await anonymous.page.goto(product.url);
      await anonymous.page.locator("input#Email1").waitFor();
      assert.deepEqual(await axe(anonymous.page), []);
      await anonymous.context.close();
    });
  }

  test("the export has as many events as the list shows", async () => {
    const { context, page } = await signedIn();
    await page.goto(`${product.url}/events?type=incident`);
    await page.locator(".grid-body .grid-row").first().waitFor();
    await page.getByRole("button", { name: /^Pause/ }).click();
    const shown = Number(/\d+/.exec(await page.locator(".page-head .count").textContent())[0]);
    const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Export CSV" }).click()]);
    const lines = readFileSync(await download.path(), "utf8").trimEnd().split("\r\n");
    const extra = lines.length - 1 - shown;
    // What happened between the pause and the export is in the export.
    const held = Number(/\((\d+)/.exec(await page.getByRole("button", { name: /^Resume/ }).textContent())?.[1] ?? 0);
    assert.ok(extra >= 0 && extra <= held, `${lines.length - 1} lines, ${shown} shown, ${held} held back`);
    await context.close();
  });

  test("a lost connection is said, and so is that it is back", async () => {
    const { context, page } = await signedIn();
    await page.goto(`${product.url}/events`);
    await page.getByRole("button", { name: /^Pause/ }).waitFor();
    // The stream is cut where it comes in; the browser's own retry then finds it again.
    await page.route("**/v1/stream*", (route) => route.abort());
    await page.reload();
    await page.locator(".disconnected").waitFor();
    await page.unroute("**/v1/stream*");
    await page.locator(".disconnected").waitFor({ state: "detached", timeout: 20_000 });
    await context.close();
  });

  test("signing out ends the session for good", async () => {
    const { context, page } = await freshPage(product.browser);
    await signIn(page, product.url, [PASSWORD]);
    const cookies = await context.cookies();
    await page.locator(".account summary").click();
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.locator("input#Email1").waitFor();
    await context.addCookies(cookies);
    const answer = await page.request.get(`${product.url}/v1/selfuser`);
    assert.equal(answer.status(), 401, "the old cookie is worth nothing");
    await context.close();
  });
});

async function axe(page) {
  const { violations } = await new AxeBuilder({ page }).analyze();
  return violations
    .filter((violation) => violation.impact === "serious" || violation.impact === "critical")
    .map((violation) => `${violation.id}: ${violation.nodes.map((node) => node.html.slice(0, 160)).slice(0, 3).join(" | ")}`);
}

/**
 * Puts the nodes' processes into Monitor and runs a program on this machine that was never seen; gives the incident's id
 * and when the API had it.
 */
async function misbehave(page, name) {
  const get = async (path) => (await page.request.get(product.url + path)).json();
  const changed = await page.request.patch(`${product.url}/v1/service/config`, { headers: CHANGES, data: { config: { services: ["nodes"], profile_mode: "Monitor" } } });
  assert.equal(changed.status(), 200);
  const known = new Set((await get("/v1/log/incident")).incidents.map((incident) => incident.id));
  const folder = mkdtempSync(join(tmpdir(), "nv-ui-deed-"));
  const program = join(folder, name);
  copyFileSync("/bin/true", program);
  chmodSync(program, 0o755);
  try {
    for (let tries = 0; tries < 200; tries += 1) {
      // Again and again: the new mode reaches the node a moment after the API has answered.
      if (!process.env.NV_DEED_ELSEWHERE) execFileSync(program);
      const fresh = (await get(`/v1/log/incident?limit=50${process.env.NV_DEED_ELSEWHERE ? "" : `&f_proc_name=${name}`}`)).incidents.find((incident) => !known.has(incident.id) && (process.env.NV_DEED_ELSEWHERE || incident.proc_path === program));
      if (fresh) return { id: fresh.id, knownAt: Date.now() };
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    throw new Error("the product did not report an unknown program within 20 s");
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
