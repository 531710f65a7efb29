// Asks the browser for a passkey, to log in with or to keep, and sends what it answers with the page's own form.
"use strict";

const bytes = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (each) => each.charCodeAt(0));
const text = (buffer) =>
  btoa(String.fromCharCode(...new Uint8Array(buffer))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
const element = (id) => document.getElementById(id);

function answer(credential) {
  const response = {};
  for (const name of ["clientDataJSON", "attestationObject", "authenticatorData", "signature", "userHandle"]) {
    if (credential.response[name]) response[name] = text(credential.response[name]);
  }
  return JSON.stringify({ id: credential.id, rawId: text(credential.rawId), type: credential.type, response });
}

async function fill(field, ask) {
  element("passkey-failed").hidden = true;
  try {
    field.value = answer(await ask());
  } catch {
    element("passkey-failed").hidden = false;
    return;
  }
  field.form.submit();
}

async function prove(form) {
  const asked = await (await fetch(form.dataset.options, { cache: "no-store" })).json();
  return navigator.credentials.get({ publicKey: { ...asked, challenge: bytes(asked.challenge) } });
}

function make() {
  const asked = JSON.parse(element("passkey-options").textContent);
  asked.challenge = bytes(asked.challenge);
  asked.user.id = bytes(asked.user.id);
  for (const known of asked.excludeCredentials) known.id = bytes(known.id);
  return navigator.credentials.create({ publicKey: asked });
}

function offer(form, field, ask) {
  if (!form) return;
  // Passkeys are of one origin, and of a page that nobody on the way could have changed.
  const isPossible = Boolean(window.PublicKeyCredential) && location.origin === form.dataset.origin;
  form.hidden = !isPossible;
  if (element("passkey-elsewhere")) element("passkey-elsewhere").hidden = isPossible;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    fill(form.elements[field], () => ask(form));
  });
}

offer(element("passkey-log-in"), "passkey", prove);
offer(element("passkey-register"), "answer", make);
