// The console under test: NV_CONSOLE_URL with NV_PASSWORD_FILE names a running one; else NV_BINARY is started with a
// state directory of its own and stopped afterwards.
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openBrowser, freshPage } from "./browser.mjs";

/** Changed to at the first login. */
export const PASSWORD = "Console-Test-2026";
const START_LIMIT_MS = 90_000;

async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

async function startBinary(binary) {
  const state = mkdtempSync(join(tmpdir(), "nv-ui-"));
  const passwordFile = join(state, "bootstrap-password");
  const bpf = `/sys/fs/bpf/nv-ui-${process.pid}`;
  const [rest, console_, grpc] = [await freePort(), await freePort(), await freePort()];
  const log = openSync(join(state, "log"), "a");
  const child = spawn(
    binary,
    ["run", "--state-dir", state, "--bpf-dir", bpf, "--rest-port", rest, "--console-port", console_, "--grpc-port", grpc, "--bootstrap-password-file", passwordFile].map(String),
    { stdio: ["ignore", log, log] },
  );
  const url = `https://127.0.0.1:${console_}`;
  const stop = async () => {
    if (child.exitCode === null) {
      const ended = new Promise((resolve) => child.once("exit", resolve));
      child.kill("SIGTERM");
      await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, 15_000))]);
      if (child.exitCode === null) child.kill("SIGKILL");
    }
    rmSync(bpf, { recursive: true, force: true });
    rmSync(state, { recursive: true, force: true });
  };
  const deadline = Date.now() + START_LIMIT_MS;
  while (!existsSync(passwordFile) || !(await answers(url))) {
    if (child.exitCode !== null || Date.now() > deadline) {
      const tail = readFileSync(join(state, "log"), "utf8").slice(-3000);
      await stop();
      throw new Error(`${binary} is not ready:\n${tail}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  return { url, passwordFile, stop };
}

/** Whether the console and the controller behind it answer. */
async function answers(url) {
  const browser = await shared();
  const { context, page } = await freshPage(browser);
  try {
    const response = await page.request.get(`${url}/v1/eula`);
    return response.ok();
  } catch {
    return false;
  } finally {
    await context.close();
  }
}

let browser;
async function shared() {
  browser ??= await openBrowser();
  return browser;
}

export async function openConsole() {
  const running = process.env.NV_CONSOLE_URL;
  if (!running && !process.env.NV_BINARY) throw new Error("set NV_BINARY to a neuvector binary, or NV_CONSOLE_URL and NV_PASSWORD_FILE to a running console");
  const product = running ? { url: running.replace(/\/$/, ""), passwordFile: process.env.NV_PASSWORD_FILE, stop: async () => {} } : await startBinary(process.env.NV_BINARY);
  return {
    url: product.url,
    browser: await shared(),
    oneTimePassword: () => readFileSync(product.passwordFile, "utf8").trim(),
    async close() {
      await browser?.close();
      browser = undefined;
      await product.stop();
    },
  };
}

/** Opens a page. Chromium gives up a load when an interface comes or goes, as pods' do; that is no fault of the page. */
async function open(page, address, attempts = 5) {
  try {
    await page.goto(address);
  } catch (error) {
    if (attempts <= 1 || !/ERR_NETWORK_CHANGED/.test(error.message)) throw error;
    await open(page, address, attempts - 1);
  }
}

/** Signs in with the selectors that existing end-to-end suites use; changes the one-time password when it is asked for. */
export async function signIn(page, url, passwords, path = "/") {
  await open(page, url + path);
  await page.fill("input#Email1", "admin");
  for (const password of passwords) {
    await page.fill("input#password1", password);
    const terms = page.locator("div.mdc-checkbox input");
    if (await terms.count()) await terms.check();
    await page.click("button[type=submit]");
    const reset = page.locator("mat-dialog-container app-reset-password-modal");
    const shell = page.locator("nav.sidebar > ul");
    const refused = page.locator(".login-form .problem");
    await reset.or(shell).or(refused).first().waitFor();
    if (await reset.count()) {
      await page.fill("input[formcontrolname=newPassword]", PASSWORD);
      await page.fill("input[formcontrolname=confirmPassword]", PASSWORD);
      await page.click("#reset-password-dialog-submit");
      await shell.waitFor();
      return "changed";
    }
    if (await shell.count()) return "signed in";
  }
  throw new Error("no password was accepted");
}
