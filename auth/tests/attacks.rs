//! What somebody might try with a token, one test for each, so that `cargo test -- --list attack_` is the list.

#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use nexus_auth::{
    DpopConfig, Proof, ProofFault, Role, TokenError, Verifier,
    issuer::SigningKey,
    testing::{Holder, TestIssuer, mint_with, unsigned},
};
use serde_json::{Value, json};

const DOOR: &str = "https://door.example/nexus";
const URL: &str = "https://door.example/nexus/v1/patients";

/// An issuer, a door that trusts it, and a valid token to start from.
struct World {
    issuer: TestIssuer,
    door: Verifier,
    claims: Value,
    header: Value,
}

impl World {
    async fn new() -> Self {
        let issuer = TestIssuer::start().await;
        let door = issuer.verifier().await;
        let door = door.with_dpop(&DpopConfig { public_url: DOOR.into(), required: false, nonces: false }).unwrap();
        let claims = issuer.claims("who", &[Role::Nurse], None);
        let header = json!({"alg": "ES256", "typ": "at+jwt", "kid": issuer.issuer().keys().current().id()});
        let world = Self { issuer, door, claims, header };
        assert!(world.door.verify(&world.mint(&world.claims)).await.is_ok(), "the token to start from is valid");
        world
    }

    fn mint(&self, claims: &Value) -> String {
        mint_with(&self.issuer.issuer().keys().current(), &self.header, claims)
    }

    /// A valid token but for one claim.
    fn with_claim(&self, name: &str, value: Value) -> String {
        let mut claims = self.claims.clone();
        claims[name] = value;
        self.mint(&claims)
    }

    /// A valid token but for one member of its header, correctly signed.
    fn with_header(&self, name: &str, value: Value) -> String {
        let mut header = self.header.clone();
        header[name] = value;
        mint_with(&self.issuer.issuer().keys().current(), &header, &self.claims)
    }

    /// A correctly signed token whose payload is this text.
    fn with_payload(&self, payload: &str) -> String {
        self.signed(&self.header.to_string(), payload)
    }

    fn signed(&self, header: &str, payload: &str) -> String {
        let key = self.issuer.issuer().keys().current();
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(key.sign_bytes(signed.as_bytes())))
    }

    async fn refuses(&self, token: &str, expected: TokenError) {
        // Twice, because the first answer must not be remembered as a good one.
        for round in 0..2 {
            assert_eq!(self.door.verify(token).await.err(), Some(expected), "round {round}");
        }
    }
}

/// A client whose token is bound to its key, and what it would send.
struct Bound {
    world: World,
    holder: Holder,
    token: String,
}

impl Bound {
    async fn new() -> Self {
        let (world, holder) = (World::new().await, Holder::generate());
        let token = world.issuer.bound_token(Role::Nurse, &holder);
        let bound = Self { world, holder, token };
        assert!(
            bound.send(&bound.holder.proof("POST", URL, &bound.token)).await.is_ok(),
            "the proof to start from holds"
        );
        bound
    }

    async fn send(&self, proof: &str) -> Result<(), TokenError> {
        let proof = Proof { text: proof, method: "POST", path: "/v1/patients" };
        self.world.door.verify_with_proof(&self.token, &proof).await.map(drop)
    }

    fn proof_with(&self, name: &str, value: Value) -> String {
        let mut claims = self.holder.proof_claims("POST", URL, Some(&self.token));
        claims[name] = value;
        mint_with(self.holder.key(), &self.holder.proof_header(), &claims)
    }

    fn proof_with_header(&self, name: &str, value: Value) -> String {
        let mut header = self.holder.proof_header();
        header[name] = value;
        mint_with(self.holder.key(), &header, &self.holder.proof_claims("POST", URL, Some(&self.token)))
    }

    async fn refuses(&self, proof: &str, expected: ProofFault) {
        assert_eq!(self.send(proof).await, Err(TokenError::BadProof(expected)));
    }

    fn now(&self) -> i64 {
        self.world.claims["iat"].as_i64().unwrap()
    }
}

#[tokio::test]
async fn attack_forged_signature() {
    let world = World::new().await;
    let forged = mint_with(&SigningKey::generate().unwrap(), &world.header, &world.claims);
    world.refuses(&forged, TokenError::BadSignature).await;
}

#[tokio::test]
async fn attack_payload_exchanged_under_a_good_signature() {
    let world = World::new().await;
    let good = world.mint(&world.claims);
    let mut more = world.claims.clone();
    more["roles"] = json!(["physician"]);
    let exchanged = format!("{}.{}", unsigned(&world.header, &more), good.rsplit_once('.').unwrap().1);
    world.refuses(&exchanged, TokenError::BadSignature).await;
}

#[tokio::test]
async fn attack_signature_of_zeros() {
    let world = World::new().await;
    let token = format!("{}.{}", unsigned(&world.header, &world.claims), "A".repeat(86));
    world.refuses(&token, TokenError::BadSignature).await;
}

#[tokio::test]
async fn attack_signature_left_out() {
    let world = World::new().await;
    world.refuses(&format!("{}.", unsigned(&world.header, &world.claims)), TokenError::BadSignature).await;
}

#[tokio::test]
async fn attack_expired() {
    let world = World::new().await;
    let now = world.claims["iat"].as_i64().unwrap();
    world.refuses(&world.with_claim("exp", json!(now - 31)), TokenError::Expired).await;
}

#[tokio::test]
async fn attack_used_before_its_time() {
    let world = World::new().await;
    let now = world.claims["iat"].as_i64().unwrap();
    world.refuses(&world.with_claim("nbf", json!(now + 90)), TokenError::NotYetValid).await;
}

#[tokio::test]
async fn attack_times_that_overflow() {
    let world = World::new().await;
    world.refuses(&world.with_claim("exp", json!(1e300)), TokenError::Malformed).await;
    world.refuses(&world.with_claim("exp", json!(i64::MIN)), TokenError::Expired).await;
    world.refuses(&world.with_claim("nbf", json!(i64::MAX)), TokenError::NotYetValid).await;
    assert!(world.door.verify(&world.with_claim("exp", json!(i64::MAX))).await.is_ok(), "it does not panic either");
}

#[tokio::test]
async fn attack_alg_none() {
    let world = World::new().await;
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        let mut header = world.header.clone();
        header["alg"] = json!(alg);
        let signature = world.mint(&world.claims).rsplit_once('.').unwrap().1.to_owned();
        for signature in ["", &signature] {
            let token = format!("{}.{signature}", unsigned(&header, &world.claims));
            world.refuses(&token, TokenError::WrongAlgorithm).await;
        }
    }
}

/// Key confusion: the public key, which everybody has, as the secret of an HMAC.
#[tokio::test]
async fn attack_hs256_with_the_public_key_as_secret() {
    let world = World::new().await;
    let public = world.issuer.issuer().keys().current().public_jwk();
    let kid = public["kid"].as_str().unwrap().to_owned();
    let coordinate = |name: &str| URL_SAFE_NO_PAD.decode(public[name].as_str().unwrap()).unwrap();
    let point = [vec![4], coordinate("x"), coordinate("y")].concat();
    for secret in [point, public.to_string().into_bytes()] {
        let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256);
        header.kid = Some(kid.clone());
        let key = jsonwebtoken::EncodingKey::from_secret(&secret);
        let token = jsonwebtoken::encode(&header, &world.claims, &key).unwrap();
        world.refuses(&token, TokenError::WrongAlgorithm).await;
    }
}

#[tokio::test]
async fn attack_another_algorithm_with_a_good_signature() {
    let world = World::new().await;
    for alg in ["ES384", "ES256K", "RS256", "PS256", "EdDSA", "HS512", "es256"] {
        world.refuses(&world.with_header("alg", json!(alg)), TokenError::WrongAlgorithm).await;
    }
}

#[tokio::test]
async fn attack_wrong_audience() {
    let world = World::new().await;
    for audience in [json!("another-api"), json!(["nexus"]), json!("nexushealth "), json!([]), json!("NEXUSHEALTH")] {
        world.refuses(&world.with_claim("aud", audience), TokenError::WrongAudience).await;
    }
}

#[tokio::test]
async fn attack_wrong_issuer() {
    let world = World::new().await;
    let own = world.issuer.url().to_owned();
    for issuer in ["http://evil.example".to_owned(), format!("{own}/"), format!("{own}@evil.example"), String::new()] {
        world.refuses(&world.with_claim("iss", json!(issuer)), TokenError::WrongIssuer).await;
    }
}

/// A second issuer with keys of its own claims to be the first.
#[tokio::test]
async fn attack_token_of_another_issuer_in_the_first_ones_name() {
    let (world, other) = (World::new().await, TestIssuer::start().await);
    world.refuses(&other.mint(&world.claims), TokenError::UnknownKey).await;
}

#[tokio::test]
async fn attack_kid_that_is_a_path_a_query_or_a_url() {
    let world = World::new().await;
    for kid in ["../../dev/null", "' or '1'='1", "http://evil.example/key", "", "\0", "a\r\nX-Evil: 1"] {
        world.refuses(&world.with_header("kid", json!(kid)), TokenError::UnknownKey).await;
    }
    for kid in [json!(["a"]), json!({"a": 1}), json!(7)] {
        world.refuses(&world.with_header("kid", kid), TokenError::Malformed).await;
    }
}

/// The attacker's key in the header, and the attacker's signature.
#[tokio::test]
async fn attack_own_key_in_the_header() {
    let world = World::new().await;
    let own = SigningKey::generate().unwrap();
    let mut header = world.header.clone();
    header["jwk"] = own.public_jwk();
    world.refuses(&mint_with(&own, &header, &world.claims), TokenError::BadSignature).await;
    header["kid"] = json!(own.id());
    world.refuses(&mint_with(&own, &header, &world.claims), TokenError::UnknownKey).await;
}

/// The attacker's key behind an address in the header: nobody may even ask for it.
#[tokio::test]
async fn attack_address_of_a_key_in_the_header_is_never_fetched() {
    let world = World::new().await;
    let trap = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/keys", trap.local_addr().unwrap());
    let own = SigningKey::generate().unwrap();
    for member in ["jku", "x5u", "iss", "jwks_uri"] {
        let mut header = world.header.clone();
        header[member] = json!(address);
        world.refuses(&mint_with(&own, &header, &world.claims), TokenError::BadSignature).await;
        header["kid"] = json!(own.id());
        world.refuses(&mint_with(&own, &header, &world.claims), TokenError::UnknownKey).await;
    }
    let asked = std::future::poll_fn(|context| std::task::Poll::Ready(trap.poll_accept(context).is_ready())).await;
    assert!(!asked, "somebody asked for the attacker's key");
}

#[tokio::test]
async fn attack_certificate_in_the_header() {
    let world = World::new().await;
    let own = SigningKey::generate().unwrap();
    let mut header = world.header.clone();
    header["x5c"] = json!(["MIIB"]);
    header["x5t"] = json!(own.id());
    world.refuses(&mint_with(&own, &header, &world.claims), TokenError::BadSignature).await;
}

#[tokio::test]
async fn attack_critical_extension() {
    let world = World::new().await;
    for critical in [json!(["b64"]), json!(["x"]), json!([]), Value::Null] {
        world.refuses(&world.with_header("crit", critical), TokenError::Malformed).await;
    }
}

#[tokio::test]
async fn attack_oversized_token() {
    let world = World::new().await;
    world.refuses(&"a".repeat(1 << 20), TokenError::Malformed).await;
    world.refuses(&world.with_claim("padding", json!("x".repeat(8 * 1024))), TokenError::Malformed).await;
    world.refuses(&".".repeat(8_000), TokenError::Malformed).await;
}

/// A parser that recurses without a limit would overflow its stack. What is read is bounded; what is not read is skipped
/// without recursion.
#[tokio::test]
async fn attack_nested_json_bomb() {
    let world = World::new().await;
    let bomb = format!("{}{}", "[".repeat(2_500), "]".repeat(2_500));
    let payload = world.claims.to_string();
    let with_claim = |name: &str| world.with_payload(&format!(r#"{{"{name}":{bomb},{}"#, &payload[1..]));
    world.refuses(&with_claim("cnf"), TokenError::Malformed).await;
    assert!(world.door.verify(&with_claim("unknown")).await.is_ok(), "signed by the issuer, and skipped");
    let with_header = |name: &str| world.signed(&format!(r#"{{"alg":"ES256","{name}":{bomb}}}"#), &payload);
    world.refuses(&with_header("jwk"), TokenError::Malformed).await;
    world.refuses(&with_header("unknown"), TokenError::UnknownKey).await;
}

/// Two readers may pick different ones of two claims; so neither is picked.
#[tokio::test]
async fn attack_duplicate_claims() {
    let world = World::new().await;
    let payload = world.claims.to_string();
    for twice in [r#""sub":"admin""#, r#""roles":["physician"]"#, r#""aud":"nexushealth""#, r#""exp":9999999999"#] {
        world.refuses(&world.with_payload(&format!("{{{twice},{}", &payload[1..])), TokenError::Malformed).await;
    }
    let header = world.header.to_string();
    let twice = world.signed(&format!(r#"{{"alg":"none",{}"#, &header[1..]), &payload);
    world.refuses(&twice, TokenError::Malformed).await;
}

#[tokio::test]
async fn attack_claims_of_another_type() {
    let world = World::new().await;
    for (claim, value) in [
        ("sub", json!(7)),
        ("sub", json!(["a", "b"])),
        ("exp", json!("9999999999")),
        ("exp", json!(true)),
        ("roles", json!("physician")),
        ("roles", json!({"physician": true})),
        ("cnf", json!("x")),
    ] {
        world.refuses(&world.with_claim(claim, value), TokenError::Malformed).await;
    }
}

#[tokio::test]
async fn attack_invented_or_differently_written_roles() {
    let world = World::new().await;
    let roles = json!(["Physician", "PHYSICIAN", " physician", "admin", "*", "physician\0", ""]);
    let caller = world.door.verify(&world.with_claim("roles", roles)).await.unwrap();
    assert!(caller.roles().is_empty(), "unknown roles are none");
}

#[tokio::test]
async fn attack_id_token_as_access_token() {
    let world = World::new().await;
    let key = world.issuer.issuer().keys().current();
    let plain = json!({"alg": "ES256", "typ": "JWT", "kid": key.id()});
    assert!(
        world.door.verify(&mint_with(&key, &plain, &world.claims)).await.is_ok(),
        "Keycloak's type of access token"
    );
    for (claim, value) in [("typ", json!("ID")), ("at_hash", json!("x")), ("c_hash", json!("x")), ("nonce", json!("x"))]
    {
        let mut claims = world.claims.clone();
        claims[claim] = value;
        world.refuses(&mint_with(&key, &plain, &claims), TokenError::WrongType).await;
    }
}

#[tokio::test]
async fn attack_other_kinds_of_jwt_as_access_token() {
    let world = World::new().await;
    for kind in ["dpop+jwt", "logout+jwt", "secevent+jwt", "client-authentication+jwt"] {
        world.refuses(&world.with_header("typ", json!(kind)), TokenError::WrongType).await;
    }
    for kind in ["Refresh", "Offline", "Logout", "Serialized-ID"] {
        world.refuses(&world.with_claim("typ", json!(kind)), TokenError::WrongType).await;
    }
}

#[tokio::test]
async fn attack_bound_token_sent_as_bearer() {
    let bound = Bound::new().await;
    bound.world.refuses(&bound.token, TokenError::BadProof(ProofFault::Missing)).await;
}

#[tokio::test]
async fn attack_token_bound_to_a_certificate_sent_as_bearer() {
    let world = World::new().await;
    world.refuses(&world.with_claim("cnf", json!({"x5t#S256": "x"})), TokenError::UnknownBinding).await;
}

#[tokio::test]
async fn attack_plain_token_with_a_proof_of_ones_own() {
    let world = World::new().await;
    let (token, thief) = (world.mint(&world.claims), Holder::generate());
    let proof = thief.proof("POST", URL, &token);
    let proof = Proof { text: &proof, method: "POST", path: "/v1/patients" };
    assert_eq!(world.door.verify_with_proof(&token, &proof).await.err(), Some(TokenError::NotBound));
}

#[tokio::test]
async fn attack_plain_token_where_bound_ones_are_required() {
    let world = World::new().await;
    let config = DpopConfig { public_url: DOOR.into(), required: true, nonces: false };
    let strict = world.door.clone().with_dpop(&config).unwrap();
    assert_eq!(strict.verify(&world.mint(&world.claims)).await.err(), Some(TokenError::NotBound));
}

#[tokio::test]
async fn attack_proof_replayed() {
    let bound = Bound::new().await;
    let proof = bound.holder.proof("POST", URL, &bound.token);
    bound.send(&proof).await.unwrap();
    bound.refuses(&proof, ProofFault::Replayed).await;
    let id = json!("the same id in a new proof");
    bound.send(&bound.proof_with("jti", id.clone())).await.unwrap();
    bound.refuses(&bound.proof_with("jti", id), ProofFault::Replayed).await;
}

#[tokio::test]
async fn attack_proof_of_another_key() {
    let bound = Bound::new().await;
    let thief = Holder::generate();
    bound.refuses(&thief.proof("POST", URL, &bound.token), ProofFault::WrongKey).await;
    // The victim's public key, which is no secret, over the thief's signature.
    let claims = thief.proof_claims("POST", URL, Some(&bound.token));
    let proof = mint_with(thief.key(), &bound.holder.proof_header(), &claims);
    bound.refuses(&proof, ProofFault::BadSignature).await;
}

#[tokio::test]
async fn attack_proof_for_another_method() {
    let bound = Bound::new().await;
    for method in ["GET", "post", "POST ", ""] {
        bound.refuses(&bound.proof_with("htm", json!(method)), ProofFault::WrongMethod).await;
    }
}

#[tokio::test]
async fn attack_proof_for_another_address() {
    let bound = Bound::new().await;
    for url in [
        "https://door.example/nexus/v1/patients/7",
        "https://door.example/v1/patients",
        "https://other.example/nexus/v1/patients",
        "https://door.example.evil.example/nexus/v1/patients",
        "https://door.example:8443/nexus/v1/patients",
        "http://door.example/nexus/v1/patients",
        "https://me@door.example/nexus/v1/patients",
        "/v1/patients",
        "",
    ] {
        bound.refuses(&bound.proof_with("htu", json!(url)), ProofFault::WrongAddress).await;
    }
    for url in [&format!("{URL}?limit=3#x"), "HTTPS://DOOR.EXAMPLE:443/nexus/v1/patients"] {
        assert_eq!(bound.send(&bound.proof_with("htu", json!(url))).await, Ok(()), "RFC 9449 asks for that much");
    }
}

#[tokio::test]
async fn attack_proof_for_another_token() {
    let bound = Bound::new().await;
    let other = bound.world.issuer.bound_token(Role::Physician, &bound.holder);
    bound.refuses(&bound.holder.proof("POST", URL, &other), ProofFault::WrongToken).await;
    let claims = bound.holder.proof_claims("POST", URL, None);
    let without = mint_with(bound.holder.key(), &bound.holder.proof_header(), &claims);
    bound.refuses(&without, ProofFault::WrongToken).await;
}

#[tokio::test]
async fn attack_stale_proof() {
    let bound = Bound::new().await;
    bound.refuses(&bound.proof_with("iat", json!(bound.now() - 62)), ProofFault::Stale).await;
    bound.refuses(&bound.proof_with("iat", json!(i64::MIN)), ProofFault::Stale).await;
}

#[tokio::test]
async fn attack_proof_from_the_future() {
    let bound = Bound::new().await;
    bound.refuses(&bound.proof_with("iat", json!(bound.now() + 90)), ProofFault::Stale).await;
    bound.refuses(&bound.proof_with("iat", json!(i64::MAX)), ProofFault::Stale).await;
}

#[tokio::test]
async fn attack_proof_that_is_another_jwt() {
    let bound = Bound::new().await;
    bound.refuses(&bound.token, ProofFault::Malformed).await;
    for kind in [json!("JWT"), json!("at+jwt"), Value::Null] {
        bound.refuses(&bound.proof_with_header("typ", kind), ProofFault::Malformed).await;
    }
    bound.refuses("", ProofFault::Malformed).await;
    bound.refuses(&"a.".repeat(5_000), ProofFault::Malformed).await;
}

#[tokio::test]
async fn attack_proof_with_alg_none_or_hmac() {
    let bound = Bound::new().await;
    for alg in ["none", "HS256", "RS256"] {
        bound.refuses(&bound.proof_with_header("alg", json!(alg)), ProofFault::WrongAlgorithm).await;
    }
}

/// A proof that shows its private key proves nothing, and a symmetric or missing key neither.
#[tokio::test]
async fn attack_proof_with_a_key_that_is_no_public_key() {
    let bound = Bound::new().await;
    let mut private = bound.holder.proof_header()["jwk"].clone();
    private["d"] = json!("AAAA");
    for key in [private, json!({"kty": "oct", "k": "AAAA"}), json!({}), Value::Null, json!("x")] {
        bound.refuses(&bound.proof_with_header("jwk", key), ProofFault::Malformed).await;
    }
}

#[tokio::test]
async fn attack_proof_without_or_with_an_old_nonce() {
    let bound = Bound::new().await;
    let config = DpopConfig { public_url: DOOR.into(), required: true, nonces: true };
    let strict = bound.world.door.clone().with_dpop(&config).unwrap();
    let send = async |text: String| {
        let proof = Proof { text: &text, method: "POST", path: "/v1/patients" };
        strict.verify_with_proof(&bound.token, &proof).await.err()
    };
    let needed = Some(TokenError::BadProof(ProofFault::NonceNeeded));
    assert_eq!(send(bound.holder.proof("POST", URL, &bound.token)).await, needed);
    assert_eq!(send(bound.proof_with("nonce", json!("invented"))).await, needed);
    let of_another = bound.world.door.clone().with_dpop(&config).unwrap().proof_nonce().unwrap();
    assert_eq!(send(bound.proof_with("nonce", json!(of_another))).await, needed, "another process's");
    assert_eq!(send(bound.proof_with("nonce", json!(strict.proof_nonce().unwrap()))).await, None);
}
