# Makes ../crossed.json from ../crossed.csv: Rscript crossed.R (R with lme4, lmerTest and pbkrtest)
suppressMessages(library(lmerTest))
d <- read.csv("../crossed.csv", stringsAsFactors = TRUE)
for (type in c("source_type", "driving_type")) contrasts(d[[type]]) <- contr.sum(2)
tight <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-10, maxfun = 1e5))
row <- function(fit, name, ddf) {
  line <- coef(summary(fit, ddf = ddf))[name, ]
  list(estimate = line[["Estimate"]], error = line[["Std. Error"]], df = line[["df"]], p = line[["Pr(>|t|)"]])
}
inferred <- function(fit, name) list(satterthwaite = row(fit, name, "Satterthwaite"),
                                     kenward_roger = row(fit, name, "Kenward-Roger"))
# The difference of the methods, a number a rater and pair
wide <- reshape(d, direction = "wide", timevar = "method",
                idvar = c("rater", "source", "source_type", "driving", "driving_type"))
wide$gap <- wide$value.p - wide$value.q
methods <- lmer(gap ~ source_type * driving_type + (1 | source) + (1 | driving) +
                  (1 | source:driving) + (1 | rater), wide, control = tight)
# Types: means over raters and methods, so that only stimuli are at random
means <- aggregate(value ~ source + source_type + driving + driving_type, d, mean)
types <- lmer(value ~ source_type * driving_type + (1 | source) + (1 | driving), means, control = tight)
# Agreement: clips and raters at random
d$clip <- interaction(d$source, d$driving, d$method)
parts <- as.data.frame(VarCorr(lmer(value ~ 1 + (1 | clip) + (1 | rater), d, control = tight)))
# Friedman's test of the conditions, and a cubic that maps clips' means of one method to the other's
d$condition <- interaction(d$source_type, d$driving_type, d$method)
ranks <- friedman.test(tapply(d$value, list(d$rater, d$condition), mean))
both <- aggregate(value ~ source + driving + method, d, mean)
both <- reshape(both, direction = "wide", timevar = "method", idvar = c("source", "driving"))
cubic <- lm(value.q ~ poly(value.p, 3), both)
result <- list(
  friedman = list(chi2 = unname(ranks$statistic), p = ranks$p.value),
  cubic = list(rmse = sqrt(mean(resid(cubic)^2)), plcc = cor(fitted(cubic), both$value.q)),
  singular = c(isSingular(methods), isSingular(types)),
  method = inferred(methods, "(Intercept)"),
  source_type = inferred(types, "source_type1"),
  driving_type = inferred(types, "driving_type1"),
  method_source_type = inferred(methods, "source_type1"),
  method_driving_type = inferred(methods, "driving_type1"),
  source_type_driving_type = inferred(types, "source_type1:driving_type1"),
  variances = setNames(as.list(parts$vcov), parts$grp))
json <- function(x) {
  if (is.list(x)) paste0("{", paste0('"', names(x), '": ', sapply(x, json), collapse = ", "), "}")
  else if (length(x) > 1) paste0("[", paste(sapply(x, json), collapse = ", "), "]")
  else if (is.logical(x)) tolower(x) else format(x, digits = 12)
}
writeLines(json(result), "../crossed.json")
